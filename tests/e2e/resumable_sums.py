"""The checksums of S3 by its names, as hashlib has them: update(), digest().

CRC32C and CRC64NVME are tables of 65536 values in Python, some 10 MB/s; the
XXH family is libxxhash.
"""

import ctypes
import ctypes.util
import functools
import hashlib
import struct
import zlib


class Crc32:
    def __init__(self):
        self.value = 0

    def update(self, data):
        self.value = zlib.crc32(data, self.value)

    def digest(self):
        return self.value.to_bytes(4, "big")


@functools.cache
def tables(polynomial):
    """Four: of 16 bits that are followed by 0, 2, 4 and 6 bytes of zero."""
    first = []
    for value in range(65536):
        for _ in range(16):
            value = value >> 1 ^ (polynomial if value & 1 else 0)
        first.append(value)
    found = [first]
    for _ in range(3):
        found.append([v >> 16 ^ first[v & 0xffff] for v in found[-1]])
    return found


class Crc:
    """Reflected, and inverted before and after."""

    def __init__(self):
        self.value = (1 << self.BITS) - 1

    def update(self, data):
        data = memoryview(data).cast("B")
        t0, t1, t2, t3 = tables(self.POLYNOMIAL)
        value, whole = self.value, len(data) & ~7
        for (word,) in struct.iter_unpack("<Q", data[:whole]):
            word ^= value
            value = t3[word & 0xffff] ^ t2[word >> 16 & 0xffff] ^ \
                t1[word >> 32 & 0xffff] ^ t0[word >> 48]
        for byte in data[whole:]:
            value ^= byte
            for _ in range(8):
                value = value >> 1 ^ (self.POLYNOMIAL if value & 1 else 0)
        self.value = value

    def digest(self):
        value = self.value ^ (1 << self.BITS) - 1
        return value.to_bytes(self.BITS // 8, "big")


class Crc32c(Crc):
    BITS, POLYNOMIAL = 32, 0x82f63b78


class Crc64Nvme(Crc):
    BITS, POLYNOMIAL = 64, 0x9a6c9329ac4bc9b5


@functools.cache
def xxhash():
    lib = ctypes.CDLL(ctypes.util.find_library("xxhash") or
                      "libxxhash.so.0")
    for kind in ("XXH64", "XXH3"):
        getattr(lib, kind + "_createState").restype = ctypes.c_void_p
    for name in ("XXH64_digest", "XXH3_64bits_digest"):
        getattr(lib, name).restype = ctypes.c_uint64
    lib.XXH3_128bits_digest.restype = Hash128
    return lib


class Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


class Xxh:
    """KIND: the prefix of its functions; the state is never long-lived."""

    def __init__(self):
        self.state = ctypes.c_void_p(getattr(
            xxhash(), self.KIND.partition("_")[0] + "_createState")())
        seed = (ctypes.c_uint64(0),) if self.KIND == "XXH64" else ()
        getattr(xxhash(), self.KIND + "_reset")(self.state, *seed)

    def __del__(self):
        getattr(xxhash(), self.KIND.partition("_")[0] + "_freeState")(
            self.state)

    def update(self, data):
        view = memoryview(data).cast("B")
        block = bytes(view) if view.readonly else \
            (ctypes.c_char * len(view)).from_buffer(view)
        getattr(xxhash(), self.KIND + "_update")(
            self.state, block, ctypes.c_size_t(len(view)))

    def digest(self):
        value = getattr(xxhash(), self.KIND + "_digest")(self.state)
        if isinstance(value, Hash128):
            return struct.pack(">QQ", value.high, value.low)
        return struct.pack(">Q", value)


class Xxh64(Xxh):
    KIND = "XXH64"


class Xxh3(Xxh):
    KIND = "XXH3_64bits"


class Xxh128(Xxh):
    KIND = "XXH3_128bits"


SUMS = {"crc32": Crc32, "crc32c": Crc32c, "crc64nvme": Crc64Nvme,
        "sha1": hashlib.sha1, "sha256": hashlib.sha256,
        "sha512": hashlib.sha512, "md5": hashlib.md5, "xxhash64": Xxh64,
        "xxhash3": Xxh3, "xxhash128": Xxh128}

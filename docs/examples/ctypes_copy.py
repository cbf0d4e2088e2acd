#!/usr/bin/env python3
"""ctypes_copy.py SOURCE TARGET: libhaul from Python, nothing to compile.

LIBHAUL names the library when it is not installed.
"""

import ctypes
import os
import sys
from ctypes import (CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_int,
                    c_int32, c_uint32, c_uint64, c_void_p, sizeof)


class Error(Structure):
    _fields_ = [("size", c_uint32), ("code", c_int32),
                ("sys_errno", c_int32), ("proto_status", c_int32),
                ("attempts", c_uint32), ("retryable", c_uint32),
                ("message", c_char_p), ("detail", c_char_p),
                ("hint", c_char_p)]


class Stats(Structure):
    _fields_ = [("size", c_uint32), ("state", c_uint32)] + [
        (name, c_uint64) for name in (
            "bytes", "read_bytes", "sent_bytes", "acked_bytes",
            "resumed_bytes", "resent_bytes", "elapsed_ns", "rate", "rtt_ns",
            "memory_bytes")] + [
        (name, c_uint32) for name in (
            "limit", "connections", "streams", "retries")]


class Event(Structure):
    _fields_ = [("size", c_uint32), ("type", c_uint32),
                ("transfer", c_void_p), ("stats", POINTER(Stats)),
                ("error", POINTER(Error))]


EVENT_FN = CFUNCTYPE(c_int, c_void_p, POINTER(Event))

lib = ctypes.CDLL(os.environ.get("LIBHAUL", "libhaul.so.0"))
for name, arguments in {
        "haul_engine_new": [POINTER(c_void_p)],
        "haul_transfer_new": [c_void_p, c_char_p, c_char_p,
                              POINTER(c_void_p)],
        "haul_transfer_set_event_fn": [c_void_p, EVENT_FN, c_void_p],
        "haul_transfer_start": [c_void_p],
        "haul_engine_run": [c_void_p],
        "haul_engine_error": [c_void_p, POINTER(Error)],
        "haul_transfer_error": [c_void_p, POINTER(Error)],
        "haul_err_exit_status": [c_int],
        "haul_transfer_free": [c_void_p],
        "haul_engine_free": [c_void_p]}.items():
    getattr(lib, name).argtypes = arguments
lib.haul_transfer_free.restype = None
lib.haul_engine_free.restype = None


@EVENT_FN
def show(_, event):
    print("\r%.1f MB" % (event[0].stats[0].acked_bytes / 1e6), end="",
          file=sys.stderr)
    return 0


def copy(source, target):
    """Returns the exit status that haul would have."""
    engine, transfer = c_void_p(), c_void_p()
    error = Error(size=sizeof(Error))
    if lib.haul_engine_new(byref(engine)):
        raise MemoryError
    if lib.haul_transfer_new(engine, os.fsencode(source),
                             os.fsencode(target), byref(transfer)):
        lib.haul_engine_error(engine, byref(error))
    else:
        lib.haul_transfer_set_event_fn(transfer, show, None)
        if lib.haul_transfer_start(transfer) == 0:
            lib.haul_engine_run(engine)
        lib.haul_transfer_error(transfer, byref(error))
    print("\n" + (error.message.decode() if error.code else "done"),
          file=sys.stderr)
    status = lib.haul_err_exit_status(error.code)
    lib.haul_transfer_free(transfer)
    lib.haul_engine_free(engine)
    return status


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(copy(sys.argv[1], sys.argv[2]))

"""An SFTP server on 127.0.0.1 that does what sshd never does.

It serves the real file system with asyncssh: few channels, requests of
32 KiB, short answers, passwords, one-time codes - and lies, when asked.
"""

import argparse
import asyncio
import os
import struct
import sys
import warnings

warnings.filterwarnings("ignore")
import asyncssh  # noqa: E402
import asyncssh.sftp as sftp  # noqa: E402

FXP_STATUS, FXP_DATA = 101, 103
FX_OK, FX_FAILURE = 0, 4

# Each changes one answer; of DATA answers unless the name says otherwise.
LIES = {
    "length-long": "the string claims more bytes than the packet has",
    "length-short": "the string claims fewer bytes than the packet has",
    "data-long": "more bytes than were asked for",
    "data-empty": "no bytes, but no end of file",
    "data-flip": "one bit of the bytes is wrong",
    "data-status-ok": "STATUS with code OK instead of DATA",
    "data-status-failure": "STATUS with code FAILURE instead of DATA",
    "early-eof": "end of file in the middle of the file",
    "write-failure": "STATUS with code FAILURE for a WRITE",
    "id": "an id that nobody asked with (any answer)",
    "twice": "the answer comes twice (any answer)",
    "never": "no answer (any answer)",
    "packet-huge": "a packet of 4 GiB is announced (any answer)",
    "packet-zero": "a packet of no bytes (any answer)",
    "packet-type": "a type that does not exist (any answer)",
    "hang-up": "the channel is closed instead (any answer)",
}


def string(data):
    return struct.pack(">I", len(data)) + data


class Liar:
    """Sends the packets of one server; lies --lie-count times, once
    --lie-after answers of the kind that the lie is about were true."""

    def __init__(self, lie, after, count):
        self.lie, self.after, self.count = lie, after, count
        self.seen = 0

    def concerns(self, kind, request):
        if self.lie in ("early-eof",) or self.lie.startswith(("data",
                                                              "length")):
            return kind == FXP_DATA
        if self.lie == "write-failure":
            return request == sftp.FXP_WRITE
        return request in (sftp.FXP_WRITE, sftp.FXP_READ)

    def turn(self, kind, request):
        if not self.lie or not self.concerns(kind, request):
            return False
        self.seen += 1
        return self.after < self.seen <= self.after + self.count

    def packets(self, kind, body):
        """The packets to send instead of this one, lengths included."""
        ident, rest = body[:4], body[4:]
        data = rest[4:]
        wrong_id = struct.pack(">I", struct.unpack(">I", ident)[0] ^ 0x4000)
        status = {
            "data-status-ok": FX_OK,
            "data-status-failure": FX_FAILURE,
            "early-eof": 1,
            "write-failure": FX_FAILURE,
        }
        if self.lie in status:
            code = struct.pack(">I", status[self.lie])
            return [(FXP_STATUS, ident + code + string(b"lie") + string(b""))]
        changed = {
            "length-long":
                lambda: ident + struct.pack(">I", len(data) + 1000) + data,
            "length-short":
                lambda: ident + struct.pack(">I", len(data) // 2) + data,
            "data-long": lambda: ident + string(data + b"x" * 1000),
            "data-empty": lambda: ident + string(b""),
            "data-flip":
                lambda: ident + string(data[:-1] + bytes([data[-1] ^ 1])),
            "id": lambda: wrong_id + rest,
        }
        if self.lie in changed:
            return [(kind, changed[self.lie]())]
        if self.lie == "twice":
            return [(kind, body), (kind, body)]
        if self.lie == "packet-type":
            return [(250, body)]
        return []


class Handler(sftp.SFTPServerHandler):
    """Replaces asyncssh's handler: sees every request and answer."""

    args = None
    liar = None
    log = None

    async def _process_packet(self, pkttype, pktid, packet):
        self._request = pkttype
        if self.args.delay:
            await asyncio.sleep(self.args.delay / 1000)
        if pkttype == sftp.FXP_WRITE and self.args.max_write:
            if len(packet.get_remaining_payload()) > \
                    self.args.max_write + 64:
                self._cleanup_now()
                return
        await super()._process_packet(pkttype, pktid, packet)

    def _cleanup_now(self):
        """What servers with a fixed packet buffer do: they hang up."""
        self._writer.channel.abort()

    def send_packet(self, pkttype, pktid, *args):
        body = b"".join(args)
        request = getattr(self, "_request", None)
        if not self.liar.turn(pkttype, request):
            super().send_packet(pkttype, pktid, body)
            return
        print("lie", self.liar.lie, file=sys.stderr, flush=True)
        if self.liar.lie == "packet-huge":
            self._writer.write(b"\xff\xff\xff\xf0" + bytes([pkttype]) + body)
        elif self.liar.lie == "packet-zero":
            self._writer.write(b"\0\0\0\0")
        elif self.liar.lie == "hang-up":
            self._cleanup_now()
        for kind, changed in self.liar.packets(pkttype, body):
            super().send_packet(kind, pktid, changed)


class Files(asyncssh.SFTPServer):
    """The real file system, with short reads and failing calls."""

    args = None
    server = None

    def __init__(self, chan):
        super().__init__(chan)
        self._connection = chan.get_connection()

    def read(self, file_obj, offset, size):
        return super().read(file_obj, offset, min(size, self.args.max_read))

    def open(self, path, pflags, attrs):
        if self.args.fixed and not os.path.lexists(self.map_path(path)):
            raise asyncssh.SFTPPermissionDenied("no new files here")
        return super().open(path, pflags, attrs)

    def remove(self, path):
        if self.args.fixed:
            raise asyncssh.SFTPPermissionDenied("files stay")
        return super().remove(path)

    def posix_rename(self, oldpath, newpath):
        if self.args.fixed:
            raise asyncssh.SFTPPermissionDenied("names stay")
        if self.args.no_posix_rename:
            raise asyncssh.SFTPOpUnsupported("no posix-rename")
        return super().posix_rename(oldpath, newpath)

    def rename(self, oldpath, newpath):
        if self.args.fixed:
            raise asyncssh.SFTPPermissionDenied("names stay")
        if os.path.lexists(self.map_path(newpath)):
            raise asyncssh.SFTPFailure("file exists")
        return super().rename(oldpath, newpath)

    def setstat(self, path, attrs):
        if self.args.no_setstat:
            raise asyncssh.SFTPPermissionDenied("no setstat")
        return super().setstat(path, attrs)

    def fsetstat(self, file_obj, attrs):
        if self.args.no_setstat:
            raise asyncssh.SFTPPermissionDenied("no fsetstat")
        return super().fsetstat(file_obj, attrs)

    def exit(self):
        self._connection.set_extra_info(
            sessions=self._connection.get_extra_info("sessions", 1) - 1)


class Server(asyncssh.SSHServer):
    """Logins and channels of one connection."""

    args = None
    codes = None  # one-time codes that are still good
    open_connections = 0

    def connection_made(self, conn):
        self.conn = conn
        Server.open_connections += 1
        limit = self.args.max_connections
        if limit and Server.open_connections > limit:
            conn.abort()

    def connection_lost(self, exc):
        Server.open_connections -= 1

    def begin_auth(self, username):
        return True

    def password_auth_supported(self):
        return bool(self.args.password) and not self.args.otp

    def validate_password(self, username, password):
        return password == self.args.password

    def kbdint_auth_supported(self):
        return bool(self.args.otp)

    def get_kbdint_challenge(self, username, lang, submethods):
        prompts = [("One-time code: ", True)]
        if self.args.password:
            prompts.insert(0, ("Password: ", False))
        return "", "", "", prompts

    def validate_kbdint_response(self, username, responses):
        code = responses[-1]
        if self.args.password and responses[0] != self.args.password:
            return False
        if code not in self.codes:
            return False
        self.codes.discard(code)
        return True

    def session_requested(self):
        count = self.conn.get_extra_info("sessions", 0)
        if self.args.max_sessions and count >= self.args.max_sessions:
            return False
        self.conn.set_extra_info(sessions=count + 1)
        return True


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    add = p.add_argument
    add("--port", type=int, required=True)
    add("--host-key", required=True)
    add("--authorized-keys")
    add("--password")
    add("--otp", default="", help="one-time codes, each good once: 1,2,3")
    add("--max-sessions", type=int, default=0, help="channels a connection")
    add("--max-connections", type=int, default=0, help="the next is reset")
    add("--max-read", type=int, default=1 << 22, help="bytes in an answer")
    add("--max-write", type=int, default=0,
        help="bytes in a WRITE; the channel is closed on a larger one")
    add("--delay", type=float, default=0, help="ms before each request")
    add("--fixed", action="store_true", help="files are neither made nor "
        "renamed nor removed, only written")
    add("--no-extensions", action="store_true")
    add("--no-posix-rename", action="store_true")
    add("--no-setstat", action="store_true")
    add("--lie", choices=sorted(LIES), default="")
    add("--lie-after", type=int, default=0)
    add("--lie-count", type=int, default=1)
    return p.parse_args()


async def main():
    args = arguments()
    Server.args = Files.args = Handler.args = args
    Server.codes = set(filter(None, args.otp.split(",")))
    Handler.liar = Liar(args.lie, args.lie_after, args.lie_count)
    if args.no_extensions:
        Handler._extensions = []
    elif args.no_posix_rename:
        Handler._extensions = [e for e in Handler._extensions
                               if not e[0].startswith(b"posix-rename")]
    sftp.SFTPServerHandler = Handler
    server = await asyncssh.create_server(
        Server, "127.0.0.1", args.port, server_host_keys=[args.host_key],
        authorized_client_keys=args.authorized_keys, sftp_factory=Files,
        allow_scp=False)
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(main())

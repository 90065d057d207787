"""The small app of ``echo.py`` behind our protocol, and raw sockets to talk to it."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

GET = b"GET /one HTTP/1.1\r\nHost: a\r\n"
END = b"\r\n"


@dataclass
class Served:
    """The app, listening."""

    port: int
    process: "subprocess.Popen[str]"

    @contextmanager
    def connection(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield peer

    def exchange(self, *pieces: bytes, answers: int = 1) -> bytes:
        """Send everything, then read so many answers, or all until the end."""
        with self.connection() as peer:
            for piece in pieces:
                peer.sendall(piece)
            return read_answers(peer, answers)

    def resident_bytes(self) -> int:
        words = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(words.split("VmHWM:")[1].split()[0]) * 1024


def read_all(peer: socket.socket) -> bytes:
    return b"".join(iter(lambda: peer.recv(65536), b""))


def read_answers(peer: socket.socket, count: int) -> bytes:
    found, end = b"", 0
    for _ in range(count):
        while (body := found.find(b"\r\n\r\n", end) + 4) < 4:
            more = peer.recv(65536)
            if not more:
                return found
            found += more
        length = found[end:body].lower().split(b"content-length: ")[1].split()[0]
        end = body + int(length)
        while len(found) < end:
            found += peer.recv(65536)
    return found


def read_until(peer: socket.socket, words: bytes) -> bytes:
    found = b""
    while words not in found:
        more = peer.recv(65536)
        assert more, found
        found += more
    return found


@contextmanager
def serving(**limits: float) -> Iterator[Served]:
    """The small app in a process of its own; ``limits`` are the protocol's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        number = listener.fileno()
        program = [sys.executable, str(Path(__file__).with_name("echo.py"))]
        process = subprocess.Popen(
            [*program, str(number), json.dumps(limits)],
            pass_fds=[number],
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        yield Served(port, process)
    finally:
        process.terminate()
        process.communicate(timeout=15)

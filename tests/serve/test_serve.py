"""The program itself bounds its callers' headers."""

import secrets
import signal
import socket
import time
from pathlib import Path

from eth_account import Account

from tests.processes import Program


def _ask(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        peer.sendall(request)
        return b"".join(iter(lambda: peer.recv(65536), b""))


def _first_answer(port: int, request: bytes, server: Program) -> bytes:
    for _ in range(600):
        assert server.process.is_alive(), server.output("err")
        try:
            return _ask(port, request)
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise AssertionError("the server does not listen")


async def test_serve_refuses_a_large_head_and_serves_the_next(
    tmp_path: Path, free_port: int
) -> None:
    settings = {
        "RPC_URLS": "http://127.0.0.1:9",
        "PAY_TO": Account.create().address,
        "SECRET_KEY": secrets.token_urlsafe(48),
        "TAKE_PAYMENTS": "false",
        "PORT": str(free_port),
    }
    server = Program(("serve",), settings, tmp_path)
    try:
        start = b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        answer = _first_answer(free_port, start + b"\r\n", server)
        assert answer.startswith(b"HTTP/1.1 200 ")
        too_large = start + b"X: " + b"a" * 20_000 + b"\r\n\r\n"
        assert _ask(free_port, too_large).startswith(b"HTTP/1.1 431 ")
        assert _ask(free_port, start + b"\r\n").startswith(b"HTTP/1.1 200 ")
    finally:
        await server.end(signal.SIGTERM)

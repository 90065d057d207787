"""The program itself bounds its callers' headers."""

import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path

from eth_account import Account

CLI = "from tallystick.cli import main; main()"


def _ask(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        peer.sendall(request)
        return b"".join(iter(lambda: peer.recv(65536), b""))


def _first_answer(
    port: int, request: bytes, server: "subprocess.Popen[bytes]"
) -> bytes:
    for _ in range(300):
        assert server.poll() is None
        try:
            return _ask(port, request)
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise AssertionError("the server does not listen")


def test_serve_refuses_a_large_head_and_serves_the_next(
    tmp_path: Path, free_port: int
) -> None:
    settings = {
        "TALLYSTICK_RPC_URLS": "http://127.0.0.1:9",
        "TALLYSTICK_PAY_TO": Account.create().address,
        "TALLYSTICK_SECRET_KEY": secrets.token_urlsafe(48),
        "TALLYSTICK_TAKE_PAYMENTS": "false",
        "TALLYSTICK_PORT": str(free_port),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", CLI, "serve"],
        cwd=tmp_path,
        env=os.environ | settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        start = b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        answer = _first_answer(free_port, start + b"\r\n", process)
        assert answer.startswith(b"HTTP/1.1 200 ")
        too_large = start + b"X: " + b"a" * 20_000 + b"\r\n\r\n"
        assert _ask(free_port, too_large).startswith(b"HTTP/1.1 431 ")
        assert _ask(free_port, start + b"\r\n").startswith(b"HTTP/1.1 200 ")
    finally:
        process.terminate()
        process.wait(15)

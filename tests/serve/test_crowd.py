"""More connections than the server has places for."""

import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tallystick.http_limit import connections_allowed
from tests.serve.served import END, GET, Served, read_all, serving

LIMIT = 20
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
UNFINISHED = b"POST /two HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{"


@pytest.fixture
def crowded() -> Iterator[Served]:
    """A server whose places are all taken by bodies that do not end."""
    with ExitStack() as stack:
        served = stack.enter_context(serving(connection_limit=LIMIT, body_seconds=4))
        assert b" 200 " in served.exchange(GET + b"Connection: close\r\n" + END)
        for _ in range(LIMIT):
            peer = stack.enter_context(served.connection())
            peer.sendall(UNFINISHED)
        yield served


def test_one_too_many_is_told_to_come_back_and_a_probe_is_answered(
    crowded: Served,
) -> None:
    for _ in range(3):
        with crowded.connection() as peer:
            peer.sendall(GET + END)
            head, _, body = read_all(peer).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5" in head.lower()
        assert json.loads(body)["code"] == "too_many_connections"
        with crowded.connection() as probe:
            probe.sendall(LIVEZ)
            answer = read_all(probe)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" in answer.lower(), "a probe keeps no place"


def test_who_says_nothing_keeps_no_place_that_is_too_many(crowded: Served) -> None:
    with crowded.connection() as silent:
        silent.settimeout(4)
        assert read_all(silent) == b""


def test_a_flood_gets_one_line_in_the_log_and_the_server_is_there_afterwards(
    crowded: Served,
) -> None:
    with ExitStack() as stack:
        flood = [stack.enter_context(crowded.connection()) for _ in range(100)]
        told = [peer for peer in flood[40:] if _is_refused(peer)]
        assert len(told) == 60, "beyond the spare places nobody waits to be read"
    for _ in range(100):
        answer = crowded.exchange(GET + END)
        if b" 200 " in answer:
            break
        time.sleep(0.1)
    assert b" 200 " in answer
    crowded.process.terminate()
    _, log = crowded.process.communicate(timeout=15)
    lines = [json.loads(one) for one in log.splitlines() if "too_many" in one]
    assert [(one["event"], one["limit"]) for one in lines] == [
        ("too_many_connections", LIMIT)
    ]


def _is_refused(peer: socket.socket) -> bool:
    return b" 503 " in read_all(peer)


@pytest.mark.parametrize(
    ("files", "allowed"),
    [(256, 192), (1024, 768), (65536, 1000), (resource.RLIM_INFINITY, 1000)],
)
def test_there_are_files_left_for_more_than_connections(
    monkeypatch: pytest.MonkeyPatch, files: int, allowed: int
) -> None:
    """This process must keep its own limit, so what it asks is answered for it."""
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (files, files))
    assert connections_allowed() == allowed

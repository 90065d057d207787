"""Bodies that never end, by raw sockets against a process of its own."""

import json
import socket
import time
from collections.abc import Iterator

import pytest

from tests.serve.served import END, GET, Served, read_all, read_until, serving

SECONDS = 0.8
POST = b"POST /two HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST /two HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def quick() -> Iterator[Served]:
    with serving(body_seconds=SECONDS, body_bytes_a_second=100_000) as one:
        assert b" 200 " in one.exchange(GET + END)
        yield one


def gone(served: Served) -> int:
    answer = served.exchange(b"GET /gone HTTP/1.1\r\nHost: a\r\n\r\n")
    return int(answer.split()[-1])


@pytest.mark.parametrize("start", [POST % 1000, CHUNKED], ids=["length", "chunked"])
@pytest.mark.parametrize("rest", [b"", b"5\r\n{"], ids=["none", "some"])
def test_a_body_that_never_comes_is_answered_408_and_its_handler_told(
    quick: Served, start: bytes, rest: bytes
) -> None:
    before = gone(quick)
    with quick.connection() as peer:
        began = time.perf_counter()
        peer.sendall(start + rest)
        head, _, body = read_all(peer).partition(b"\r\n\r\n")
        assert SECONDS - 0.1 < time.perf_counter() - began < SECONDS + 4
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"http/1.1 408 request timeout"
    assert b"connection: close" in lines
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (408, "body_too_slow")
    assert problem["type"] == "/errors#body_too_slow"
    assert problem["next_step"]
    assert gone(quick) == before + 1


def test_a_body_that_drips_is_ended_as_well(quick: Served) -> None:
    with quick.connection() as peer:
        peer.sendall(POST % 1000)
        began = time.perf_counter()
        peer.settimeout(0.05)
        answer = b""
        while not answer and time.perf_counter() - began < 10:
            try:
                peer.sendall(b"x")
                answer = peer.recv(1000)
            except TimeoutError:
                continue
        assert b" 408 " in answer
        assert time.perf_counter() - began < SECONDS + 4


def test_three_hundred_unfinished_bodies_are_all_gone_in_time(quick: Served) -> None:
    peers = [
        socket.create_connection(("127.0.0.1", quick.port), timeout=15)
        for _ in range(300)
    ]
    for peer in peers:
        peer.sendall(POST % 1000 + b"{")
    assert b" 200 " in quick.exchange(GET + END)
    for peer in peers:
        with peer:
            assert b" 408 " in read_all(peer)


def test_a_large_body_has_as_long_as_its_size_needs(quick: Served) -> None:
    """200 KB in two seconds is beyond the first deadline and above the least rate."""
    size = 200_000
    with quick.connection() as peer:
        peer.sendall(POST % size)
        for _ in range(20):
            peer.sendall(b"x" * (size // 20))
            time.sleep(0.1)
        assert b"/two 200000 " in read_until(peer, b"/two")


def test_an_answer_or_a_handler_may_take_as_long_as_it_likes(quick: Served) -> None:
    body = b"POST /%s HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
    with quick.connection() as one, quick.connection() as two:
        one.sendall(body % b"stream")
        two.sendall(body % b"slow")
        assert read_until(one, b"end").count(b"piece") == 4
        assert b"/slow 2 " in read_until(two, b"/slow")


def test_a_body_that_waits_for_our_turn_is_not_late(quick: Served) -> None:
    """Behind an earlier answer, or unread by its handler: that is the server's time."""
    large = b"x" * 3_000_000
    with quick.connection() as peer:
        peer.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        peer.sendall(POST % len(large) + large)
        read_until(peer, b"/slow")
        assert b"/two 3000000 " in read_until(peer, b"/two")
    asks = b"POST /slow HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
    with quick.connection() as peer:
        peer.sendall(asks + b"Content-Length: 4\r\n\r\n")
        read_until(peer, b" 100 ")
        peer.sendall(b"body")
        assert b"/slow 4 " in read_until(peer, b"/slow")


def test_a_kept_connection_has_a_new_deadline_for_each_body(quick: Served) -> None:
    with quick.connection() as peer:
        for _ in range(4):
            peer.sendall(POST % 2 + b"{")
            time.sleep(SECONDS / 2)
            peer.sendall(b"}")
            assert b" 200 " in read_until(peer, b"/two")
        peer.sendall(POST % 2 + b"{")
        assert b" 408 " in read_all(peer)

"""Heads that are too large or too slow, by raw sockets against a process of its own."""

import json
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from tests.serve.served import (
    END,
    GET,
    Served,
    read_all,
    read_answers,
    read_until,
    serving,
)

LIMIT = 16 * 1024


def padded(size: int, start: bytes = GET) -> bytes:
    """A whole head of exactly so many bytes."""
    rest = size - len(start) - len(b"X: \r\n\r\n")
    return start + b"X: " + b"a" * rest + b"\r\n\r\n"


def status_lines(answer: bytes) -> int:
    return answer.count(b"HTTP/1.1 ")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as one:
        assert b" 200 " in one.exchange(GET + END)
        yield one


def test_a_head_of_exactly_the_limit_is_read(served: Served) -> None:
    assert b" 200 " in served.exchange(padded(LIMIT))


def test_one_byte_more_is_refused_as_a_problem_document(served: Served) -> None:
    answer = served.exchange(padded(LIMIT + 1))
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"http/1.1 431 request header fields too large"
    assert b"content-type: application/problem+json" in lines
    assert b"connection: close" in lines
    problem = json.loads(body)
    assert problem["type"] == "/errors#headers_too_large"
    assert (problem["status"], problem["code"]) == (431, "headers_too_large")
    assert problem["title"]
    assert problem["detail"]
    assert problem["next_step"]


@pytest.mark.parametrize(
    "head",
    [
        padded(17 * 1024),
        GET + b"X: y\r\n" * 3000 + END,
        b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n" * 9_000 + GET + END,
        GET + b"N" * 17_000 + b": x\r\n\r\n",
        GET + b"X: " + b"a" * 17_000,
    ],
    ids=["value", "many", "url", "empty lines", "name", "unfinished"],
)
def test_no_app_sees_a_head_that_is_too_large(served: Served, head: bytes) -> None:
    before = int(served.exchange(GET + END).split()[-1])
    answer = served.exchange(head)
    assert b" 431 " in answer
    assert status_lines(answer) == 1
    assert int(served.exchange(GET + END).split()[-1]) == before + 1


@pytest.mark.parametrize("size", [1_000_000, 50_000_000])
def test_a_large_head_costs_no_memory(served: Served, size: int) -> None:
    before = served.resident_bytes()
    with served.connection() as peer:
        peer.sendall(GET + b"X: " + b"a" * 20_000)
        start = time.perf_counter()
        read_until(peer, b" 431 ")
        assert time.perf_counter() - start < 0.5
        piece = b"a" * 100_000
        for _ in range(size // len(piece)):
            peer.sendall(piece)
        peer.shutdown(socket.SHUT_WR)
        read_all(peer)
    assert served.resident_bytes() - before < 5_000_000


def test_a_client_that_sends_first_and_reads_later_gets_the_answer(
    served: Served,
) -> None:
    assert b"headers_too_large" in served.exchange(padded(10_000_000))


def test_a_head_may_come_byte_by_byte(served: Served) -> None:
    head = GET + b"X-Header: words\r\nContent-Length: 4\r\n\r\nbody"
    answer = served.exchange(*(head[n : n + 1] for n in range(len(head))))
    assert b"/one 4 3 " in answer


def test_bytes_are_counted_across_pieces(served: Served) -> None:
    for size, wanted in ((LIMIT, b" 200 "), (LIMIT + 1, b" 431 ")):
        head = padded(size)
        pieces = [head[n : n + 97] for n in range(0, len(head), 97)]
        assert wanted in served.exchange(*pieces)


def test_pipelined_requests_are_counted_one_by_one(served: Served) -> None:
    answer = served.exchange(padded(12_000) * 5, answers=5)
    assert status_lines(answer) == answer.count(b" 200 ") == 5


def test_each_request_of_a_kept_connection_has_the_whole_limit(served: Served) -> None:
    with served.connection() as peer:
        for _ in range(3):
            peer.sendall(padded(LIMIT))
            assert b" 200 " in read_until(peer, b"/one")
        peer.sendall(padded(LIMIT + 1))
        assert b" 431 " in read_all(peer)


def test_a_refusal_comes_after_the_answers_before_it(served: Served) -> None:
    slow = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
    requests = slow + GET + END + padded(20_000) + GET + END
    answer = served.exchange(requests, answers=4)
    places = [answer.index(words) for words in (b"/slow", b"/one", b" 431 ")]
    assert places == sorted(places)
    assert status_lines(answer) == 3


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 20_000, 3_000_000])
def test_bodies_of_any_size_count_as_no_header(served: Served, size: int) -> None:
    start = b"POST /two HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n" % size
    body = b"\n" * size
    requests = (padded(LIMIT, start) + body) * 2 + padded(LIMIT)
    answer = served.exchange(requests, answers=3)
    assert answer.count(f"/two {size} 3 ".encode()) == 2
    assert b"/one 0 2 " in answer


@pytest.mark.parametrize("chunk", [1, 100, 5_000, 40_000])
def test_chunked_bodies_count_as_no_header(served: Served, chunk: int) -> None:
    start = b"POST /two HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = (b"%x\r\n" % chunk + b"x" * chunk + b"\r\n") * 100
    body = chunks + b"0\r\n\r\n"
    answer = served.exchange((start + body) * 2 + padded(12_000), answers=3)
    assert answer.count(f"/two {100 * chunk} 2 ".encode()) == 2
    assert b"/one 0 2 " in answer


CHUNKED = b"POST /two HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDINGS = {"plain": b"0\r\n\r\n", "trailers": b"0\r\nX: y\r\nZ: \r\n\r\n"}


def chunked(chunk: bytes, times: int, ending: str) -> bytes:
    framed = b"%x\r\n" % len(chunk) + chunk + b"\r\n"
    return CHUNKED + framed * times + ENDINGS[ending]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("chunk", "times"),
    [(b"x", 1), (b"x", 600), (b"x", 5_000), (b"\r\n\r\n", 900), (b"x" * 5_000, 3)],
    ids=["one", "a slice", "many", "empty lines", "large"],
)
def test_the_head_after_a_chunked_body_has_the_whole_limit(
    served: Served, chunk: bytes, times: int, ending: str
) -> None:
    """What frames the chunks is none of the next request's headers."""
    request = chunked(chunk, times, ending)
    answer = served.exchange(request + padded(LIMIT), answers=2)
    assert answer.count(b" 200 ") == 2
    answer = served.exchange(request + padded(LIMIT + 1), answers=2)
    assert [words in answer for words in (b"/two", b" 200 ", b" 431 ")] == [True] * 3


@pytest.mark.parametrize("ending", ENDINGS)
def test_it_does_not_matter_where_a_chunked_body_is_cut(
    served: Served, ending: str
) -> None:
    """The empty line at its end may come in two pieces, or with the next head."""
    request, size = chunked(b"x", 600, ending), len(ENDINGS[ending])
    for cut in range(len(request) - size, len(request) + 3):
        both = request + padded(LIMIT)
        with served.connection() as peer:
            peer.sendall(both[:cut])
            time.sleep(0.02)
            peer.sendall(both[cut:])
            assert read_answers(peer, 2).count(b" 200 ") == 2, cut


def test_trailers_are_bounded_and_reach_no_app(served: Served) -> None:
    start = b"POST /two HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    few = served.exchange(start + b"1\r\nx\r\n0\r\nX-API-Key: stolen\r\n\r\n")
    assert b"/two 1 2 " in few
    endless = start + b"1\r\nx\r\n0\r\n" + b"X: y\r\n" * 10_000
    assert b" 200 " not in served.exchange(endless)


def test_an_upgrade_is_not_made_and_loses_no_request(served: Served) -> None:
    upgrade = GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    two = b"GET /two HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = served.exchange(upgrade + two + padded(LIMIT + 1), answers=3)
    assert [words in answer for words in (b"/one 0 3", b"/two 0 1", b" 431 ")] == [
        True,
        True,
        True,
    ]


def test_an_honest_client_is_served_beside_an_attack(served: Served) -> None:
    with served.connection() as attacker:
        attacker.sendall(GET + b"X: " + b"a" * 15_000)
        assert b" 200 " in served.exchange(GET + END)
        attacker.sendall(b"a" * 5_000)
        assert b" 200 " in served.exchange(GET + END)
        assert b" 431 " in read_until(attacker, b"}")


def _drip(peer: socket.socket, words: Callable[[int], bytes]) -> float:
    """Send a piece every twentieth of a second; the seconds until we are cut off."""
    start = time.perf_counter()
    peer.settimeout(0.05)
    for turn in range(200):
        try:
            peer.sendall(words(turn))
            if not peer.recv(100):
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    return time.perf_counter() - start


def test_a_head_that_takes_too_long_ends_the_connection() -> None:
    with serving(head_seconds=0.6) as quick:
        with quick.connection() as silent, quick.connection() as slow:
            assert 0.5 < _drip(slow, lambda turn: GET if turn == 0 else b"a") < 3
            assert read_all(silent) == b""
        with quick.connection() as reused:
            reused.sendall(GET + END)
            read_until(reused, b"/one")
            assert 0.5 < _drip(reused, lambda _: b"\r\n") < 3
        # The app's own second is not the client's fault.
        slow_answer = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
        with quick.connection() as patient:
            patient.sendall(slow_answer + GET)
            read_until(patient, b"/slow")
            patient.sendall(END)
            read_until(patient, b"/one")

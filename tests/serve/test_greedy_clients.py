"""Clients that send ahead without end, or never read what they asked for."""

import json
import socket
import time
from contextlib import ExitStack

from tests.serve.served import END, GET, read_all, serving

SLOW = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE = b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n"


def test_requests_sent_ahead_are_answered_in_turn_up_to_a_limit() -> None:
    with serving() as served, served.connection() as peer:
        peer.sendall((GET + END) * 40)
        answers = read_all(peer)
    assert answers.count(b"HTTP/1.1 200 ") == 9
    assert answers.count(b"HTTP/1.1 ") == 10
    head, _, body = answers.rpartition(b"HTTP/1.1 429 ")[2].partition(b"\r\n\r\n")
    assert json.loads(body)["code"] == "too_many_in_a_row"
    assert b"connection: close" in head.lower()


def test_a_few_requests_sent_ahead_are_all_answered() -> None:
    with serving() as served:
        answers = served.exchange(SLOW + (GET + END) * 8, answers=9)
    assert answers.count(b"HTTP/1.1 200 ") == 9


def test_endless_requests_cost_no_memory() -> None:
    """Without the limit these twenty clients took 360 megabytes."""
    with serving() as served, ExitStack() as stack:
        assert b" 200 " in served.exchange(GET + b"Connection: close\r\n" + END)
        before = served.resident_bytes()
        for _ in range(20):
            peer = stack.enter_context(served.connection())
            peer.sendall(SLOW)
            peer.settimeout(0)
            _send_what_is_taken(peer, (GET + END) * 8_000)
        time.sleep(1)
        assert b" 200 " in served.exchange(GET + b"Connection: close\r\n" + END)
        assert served.resident_bytes() - before < 20_000_000


def _send_what_is_taken(peer: socket.socket, data: bytes) -> None:
    try:
        peer.send(data)
    except BlockingIOError:
        return


def test_who_reads_nothing_of_his_answer_is_cut_off() -> None:
    with serving(stall_seconds=1) as served, served.connection() as peer:
        peer.sendall(LARGE)
        time.sleep(4)
        try:
            taken = len(read_all(peer))
        except ConnectionResetError:
            taken = 0
    assert taken < 20_000_000, "the rest was never sent"


def test_who_reads_slowly_gets_all_of_his_answer() -> None:
    with serving(stall_seconds=1) as served, served.connection() as peer:
        peer.sendall(LARGE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        taken = 0
        while piece := peer.recv(2_000_000):
            taken += len(piece)
            time.sleep(0.2)
    assert taken > 20_000_000

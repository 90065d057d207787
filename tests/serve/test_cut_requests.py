"""Requests that are cut off, or come byte by byte: none is charged before it is whole."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest
from eth_account import Account

from tallystick.chain.local import LocalChain
from tallystick.http_limit import BoundedProtocol
from tests.api.callers import customer_key
from tests.api.payments import ON_SQLITE, books, funded, offer_of, sign
from tests.api.shop import CALLS, CATALOG
from tests.live import LiveServer, make_settings, start_server

pytestmark = ON_SQLITE
PATH = "/features/echo"
CREDITS = 10


@pytest.fixture
async def served(
    database_url: str, chain: LocalChain, free_port: int
) -> AsyncIterator[LiveServer]:
    """The tests' shop behind the protocol that ``serve`` uses."""
    settings = make_settings(database_url, chain.url, free_port, catalog=CATALOG)
    live = await start_server(settings, http=BoundedProtocol)
    try:
        yield live
        assert (await live.audit()).findings == []
    finally:
        await live.stop()


@pytest.fixture
async def key(served: LiveServer) -> str:
    return await customer_key(served, Account.create(), CREDITS)


@asynccontextmanager
async def connection(
    served: LiveServer,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.settings.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def cut(served: LiveServer, request: bytes, at: int, how: str) -> bytes:
    """Send so many bytes and leave; what the server says to that, if anything."""
    async with connection(served) as (reader, writer):
        writer.write(request[:at])
        await writer.drain()
        if how == "reset":
            writer.transport.abort()
            return b""
        if how == "close":
            return b""
        writer.write_eof()
        async with asyncio.timeout(15):
            return await reader.read()


async def exchange(served: LiveServer, request: bytes) -> tuple[int, bytes]:
    """Send the request in slices of one byte; status and body of its answer."""
    async with connection(served) as (reader, writer):
        for n in range(len(request)):
            writer.write(request[n : n + 1])
            await writer.drain()
            await asyncio.sleep(0)  # the server's turn, in this very loop
        async with asyncio.timeout(15):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def head(method: str, path: str, **headers: str) -> bytes:
    named = {"Host": "a", "Connection": "close"} | headers
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in named.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def chunked(body: bytes, size: int = 7) -> bytes:
    pieces = [body[n : n + size] for n in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in pieces)
    return framed + b"0\r\n\r\n"


def posts(text: str, **headers: str) -> dict[str, tuple[bytes, bytes]]:
    """A call with a body, by its length and in chunks: its head and the rest."""
    body = json.dumps({"text": text}).encode()
    as_json = {"Content_Type": "application/json"} | headers
    return {
        "length": (
            head("POST", PATH, **as_json, Content_Length=str(len(body))),
            body,
        ),
        "chunked": (
            head("POST", PATH, **as_json, Transfer_Encoding="chunked"),
            chunked(body),
        ),
    }


async def require_untouched(
    served: LiveServer, before: dict[str, int], text: str
) -> None:
    """The server lives, ran nothing, wrote nothing and holds nothing."""
    async with httpx.AsyncClient(base_url=served.url, timeout=20) as http:
        assert (await http.get("/livez")).json() == {"alive": True}
    await asyncio.sleep(0.1)  # for whatever might still be running
    assert CALLS[text] == 0
    assert await books(served) == before


@pytest.fixture(autouse=True)
def quiet(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Who leaves is no fault of ours: otherwise anybody could fill the log."""
    yield
    written = "".join(capsys.readouterr())
    assert "unforeseen" not in written
    assert "Traceback" not in written


@pytest.mark.parametrize("how", ["close", "reset", "half"])
async def test_a_head_that_is_cut_anywhere_costs_nothing(
    served: LiveServer, key: str, how: str
) -> None:
    text = f"cut{how}"
    request = head("GET", f"{PATH}?text={text}", Authorization=f"Bearer {key}")
    before = await books(served)
    for at in range(0, len(request), 1 if how == "close" else 9):
        answer = await cut(served, request, at, how)
        assert b" 200 " not in answer, at
    await require_untouched(served, before, text)
    assert (await exchange(served, request))[0] == 200


async def test_a_payment_whose_header_is_cut_is_not_claimed(
    served: LiveServer, chain: LocalChain
) -> None:
    payer = await funded(chain)
    path = f"{PATH}?text=cutpayment"
    async with httpx.AsyncClient(base_url=served.url, timeout=20) as http:
        payment = sign(payer, await offer_of(http, path)).headers
    [(name, value)] = payment.items()
    request = head("GET", path, **{name: value})
    before = await books(served)
    for at in [*range(1, len(request), 50), len(request) - 1]:
        answer = await cut(served, request, at, "half")
        assert b" 200 " not in answer, at
    # The line ends early and the head is whole: half a payment is none.
    for part in (1, len(value) // 2, len(value) - 1):
        shorter = head("GET", path, **{name: value[:part]})
        status, body = await exchange(served, shorter)
        assert (status, json.loads(body)["code"]) == (400, "malformed_payment")
    await require_untouched(served, before, "cutpayment")


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("how", ["close", "reset", "half"])
async def test_a_body_that_is_cut_anywhere_costs_nothing(
    served: LiveServer, key: str, framing: str, how: str
) -> None:
    text = f"body{framing}{how}"
    start, rest = posts(text, Authorization=f"Bearer {key}")[framing]
    before = await books(served)
    for at in range(len(rest)):
        answer = await cut(served, start + rest, len(start) + at, how)
        assert b" 200 " not in answer, at
    await require_untouched(served, before, text)


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_paid_body_that_is_cut_claims_nothing(
    served: LiveServer, chain: LocalChain, framing: str
) -> None:
    payer = await funded(chain)
    text = f"paidbody{framing}"
    async with httpx.AsyncClient(base_url=served.url, timeout=20) as http:
        entry = await offer_of(http, PATH, method="POST", json={"text": text})
    [(name, value)] = sign(payer, entry).headers.items()
    start, rest = posts(text, **{name: value})[framing]
    before = await books(served)
    for at in range(0, len(rest), 5):
        assert b" 200 " not in await cut(served, start + rest, len(start) + at, "half")
    await require_untouched(served, before, text)


async def test_requests_that_come_byte_by_byte_are_served_and_charged_once(
    served: LiveServer, key: str
) -> None:
    as_customer = {"Authorization": f"Bearer {key}"}
    bytewise = {
        "get": head("GET", f"{PATH}?text=bytesget", **as_customer),
        **{
            framing: start + rest
            for framing, (start, rest) in posts("bytespost", **as_customer).items()
        },
    }
    for remaining, request in enumerate(bytewise.values(), start=1):
        status, body = await exchange(served, request)
        assert status == 200, body
        async with httpx.AsyncClient(base_url=served.url) as http:
            found = await http.get("/api/credits", headers=as_customer)
        assert found.json()["credits"] == CREDITS - remaining
    assert (CALLS["bytesget"], CALLS["bytespost"]) == (1, 2)


@pytest.mark.parametrize("blanks", [" ", "\t", " \t \t"])
async def test_blanks_around_a_header_are_none_of_its_value(
    served: LiveServer, key: str, chain: LocalChain, blanks: str
) -> None:
    """RFC 9110, 5.5: they are excluded before a field is evaluated."""
    path = f"{PATH}?text=blanks"
    payer = await funded(chain)
    async with httpx.AsyncClient(base_url=served.url, timeout=20) as http:
        paid = sign(payer, await offer_of(http, path)).headers
    for headers in ({"Authorization": f"Bearer {key}"}, {"X-API-Key": key}, paid):
        [(name, value)] = headers.items()
        request = head("GET", path, **{name: f"{blanks}{value}{blanks}"})
        status, body = await exchange(served, request)
        assert status == 200, body


@pytest.mark.parametrize(
    "rest",
    [
        b"g\r\n",
        b"-1\r\n",
        b"5\r\n{}\r\n\r\n0\r\n\r\n",
        b"ffffffffffffffffff\r\n",
        b"2\r\n{}XX0\r\n\r\n",
    ],
)
async def test_a_body_of_broken_chunks_costs_nothing(
    served: LiveServer, key: str, rest: bytes
) -> None:
    start, _ = posts("broken", Authorization=f"Bearer {key}")["chunked"]
    before = await books(served)
    answer = await cut(served, start + rest, len(start + rest), "half")
    assert b" 200 " not in answer
    await require_untouched(served, before, "broken")

"""The statement as a file, from the door that customers use."""

import csv
import io
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from eth_account import Account

from tallystick.credits.grants import grant_promotional
from tallystick.customers.wallets import ensure_customer_of_wallet
from tallystick.exports import statement
from tallystick.identity.keys import Scope
from tallystick.kernel import json
from tallystick.kernel.db import ReadSession, WriteSession
from tallystick.kernel.failing import DatabaseBusy
from tallystick.kernel.money import MicroCredits
from tallystick.ledger.statement import StatementLine
from tests.api.callers import bearer, customer_key, issue
from tests.api.payments import ON_SQLITE, address_of, refusal_of
from tests.live import LiveServer

LINES = "/api/credits/transactions"
FILE = f"{LINES}/export"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SHOWN = ("id", "type", "description", "posted_at_ms")


def iso(at_ms: int) -> str:
    return (EPOCH + timedelta(milliseconds=at_ms)).isoformat()


def csv_rows(answer: httpx.Response) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    return list(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))


def json_rows(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.content.splitlines()]


async def told(shop: httpx.AsyncClient, key: str, **query: str) -> httpx.Response:
    return await shop.get(FILE, params=query, headers=bearer(key))


async def lines_of(shop: httpx.AsyncClient, key: str) -> list[dict[str, Any]]:
    answer = await shop.get(LINES, params={"limit": 200}, headers=bearer(key))
    found: list[dict[str, Any]] = json.loads(answer.content)["transactions"]
    return found[::-1]


@pytest.fixture
async def key(
    shop: httpx.AsyncClient, shop_server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The key of a customer whose fourteen lines are three pages of an export."""
    monkeypatch.setattr(statement, "AT_ONCE", 6)
    made = await customer_key(shop_server, Account.create(), 100)
    for n in range(13):
        wanted = {"feature": "words", "quantity": f"1.00000{n % 2 * 4 + 4}"}
        answer = await shop.post(
            "/api/credits/deduct", json=wanted, headers=bearer(made)
        )
        assert answer.status_code == 200, answer.text
    return made


async def test_a_file_has_every_line_once_and_to_the_last_digit(
    shop: httpx.AsyncClient, key: str
) -> None:
    lines = await lines_of(shop, key)
    assert len(lines) == 14
    assert lines[1]["credits"] == Decimal("-0.250001")
    answer = await told(shop, key, format="jsonl")
    name = answer.headers["content-disposition"]
    assert name.startswith('attachment; filename="statement-cus_')
    assert name.endswith('.jsonl"')
    assert answer.headers["cache-control"] == "no-store, private"
    assert answer.headers["x-content-type-options"] == "nosniff"
    found = json_rows(answer)
    for row in found:
        at = datetime.fromisoformat(row.pop("posted_at"))
        assert at - EPOCH == timedelta(milliseconds=row["posted_at_ms"])
    assert found == lines

    cells = csv_rows(await told(shop, key))
    for row, line in zip(cells, lines, strict=True):
        for column in SHOWN:
            assert row[column] == str(line[column])
        for column in ("credits", "balance_after"):
            assert row[column] == str(line[column])


@ON_SQLITE
async def test_periods_that_meet_share_no_line_and_miss_none(
    shop: httpx.AsyncClient, key: str
) -> None:
    lines = await lines_of(shop, key)
    for at_ms in {line["posted_at_ms"] for line in lines}:
        before = json_rows(await told(shop, key, format="jsonl", to=iso(at_ms)))
        after = json_rows(await told(shop, key, format="jsonl", **{"from": iso(at_ms)}))
        assert all(row["posted_at_ms"] < at_ms for row in before)
        assert all(row["posted_at_ms"] >= at_ms for row in after)
        assert [row["id"] for row in before + after] == [line["id"] for line in lines]
    both = {"from": "2025-01-01T00:00:00Z", "to": "2025-02-01T00:00:00+01:00"}
    assert csv_rows(await told(shop, key, **both)) == []


FORMULAS = (
    '=HYPERLINK("http://evil.example";"click")',
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "\uff1d1+1",
)
HARMLESS = 'a,"b"\r\n=1+1'


@ON_SQLITE
async def test_no_memo_becomes_a_formula_or_another_cell(
    shop: httpx.AsyncClient, shop_server: LiveServer
) -> None:
    wallet = Account.create()

    async def work(session: WriteSession) -> None:
        owner = await ensure_customer_of_wallet(session, address_of(wallet))
        for memo in (*FORMULAS, HARMLESS):
            await grant_promotional(
                session,
                owner,
                MicroCredits(1),
                idempotency_key=secrets.token_bytes(16),
                reference="test",
                memo=memo,
            )

    await shop_server.gate.db.write(work)
    key = await issue(shop_server, wallet)
    rows = csv_rows(await told(shop, key))
    cells = [row["description"] for row in rows]
    assert cells == [*(f"'{memo}" for memo in FORMULAS), HARMLESS]
    assert {row["credits"] for row in rows} == {"0.000001"}
    lines = json_rows(await told(shop, key, format="jsonl"))
    # JSON is no spreadsheet, so nothing is put before it.
    assert [line["description"] for line in lines] == [*FORMULAS, HARMLESS]


@ON_SQLITE
async def test_a_file_is_for_its_customer_alone(
    shop: httpx.AsyncClient, shop_server: LiveServer
) -> None:
    rich, poor = Account.create(), Account.create()
    await customer_key(shop_server, rich, 9)
    await shop_server.gate.db.write(
        lambda session: ensure_customer_of_wallet(session, address_of(poor))
    )
    nothing = await told(shop, await issue(shop_server, poor))
    assert csv_rows(nothing) == []
    assert nothing.text.startswith("id,type,description,credits,balance_after,")
    nothing = await told(shop, await issue(shop_server, poor), format="jsonl")
    assert nothing.content == b""
    assert refusal_of(await shop.get(FILE)) == (401, "identity_required")
    blind = await issue(shop_server, rich, Scope.SPEND)
    assert refusal_of(await told(shop, blind)) == (403, "scope_missing")
    seller = bearer(await issue(shop_server, None))
    answer = await shop.get(FILE, headers=seller)
    assert refusal_of(answer) == (422, "invalid_request")
    named = seller | {"Tallystick-Customer": rich.address}
    (row,) = csv_rows(await shop.get(FILE, headers=named))
    assert row["credits"] == "9"


@ON_SQLITE
async def test_what_cannot_be_exported_is_told_before_the_first_line(
    shop: httpx.AsyncClient, shop_server: LiveServer
) -> None:
    key = await customer_key(shop_server, Account.create(), 9)
    now = iso(shop_server.gate.db.clock.now_ms())
    for query, code in (
        ({"format": "xlsx"}, "invalid_request"),
        ({"from": "2025-01-01T00:00:00"}, "invalid_request"),
        ({"to": "soon"}, "invalid_request"),
        ({"from": now, "to": now}, "invalid_period"),
        ({"from": now, "to": "2025-01-01T00:00:00Z"}, "invalid_period"),
    ):
        assert refusal_of(await told(shop, key, **query)) == (422, code), query
    document = (await shop.get("/openapi.json")).json()
    answers = document["paths"][FILE]["get"]["responses"]
    assert set(answers["200"]["content"]) == {"text/csv", "application/x-ndjson"}


@ON_SQLITE
async def test_a_file_that_breaks_off_cannot_be_taken_for_a_whole_one(
    shop: httpx.AsyncClient, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = statement.lines_between

    async def broken(
        session: ReadSession, account_id: int, first: int, last: int
    ) -> Sequence[StatementLine]:
        if first > 6:
            raise DatabaseBusy("the database is gone")
        return await whole(session, account_id, first, last)

    monkeypatch.setattr(statement, "lines_between", broken)
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        await told(shop, key)
    monkeypatch.undo()
    assert len(csv_rows(await told(shop, key))) == 14

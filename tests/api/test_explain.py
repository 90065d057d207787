"""One transaction in full, and nothing of anybody else."""

import re
import secrets
from decimal import Decimal
from typing import Any

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount
from sqlalchemy import event

from tallystick.chain.local import LocalChain
from tallystick.credits.grants import grant_free
from tallystick.credits.models import GrantCategory
from tallystick.credits.refunds import refund
from tallystick.customers.wallets import customer_of_wallet
from tallystick.identity.keys import Scope
from tallystick.kernel import json
from tallystick.kernel.db import WriteSession
from tallystick.kernel.ids import decode_id, encode_id
from tallystick.kernel.money import CREDIT, Amount, MicroCredits
from tallystick.ledger import chart
from tallystick.ledger.journal import post
from tallystick.ledger.lotted import LotTerms
from tallystick.ledger.models import TransactionKind
from tallystick.ledger.posting import Posting, Transfer
from tests.api.callers import bearer, customer_key, issue
from tests.api.payments import ON_SQLITE, address_of, buy, funded, refusal_of
from tests.live import LiveServer

LINES = "/api/credits/transactions"

_OF_OTHERS = re.compile(
    r"FROM (api_key|chain_\w+|topup|payee|relayer\w*|recent_block|payback|merchant_\w+)\b"
)
"""Who asks is looked up first, and the workers read meanwhile."""


async def lines_of(shop: httpx.AsyncClient, key: str) -> list[dict[str, Any]]:
    answer = await shop.get(LINES, headers=bearer(key))
    found: list[dict[str, Any]] = json.loads(answer.content)["transactions"]
    return found


async def explained(
    shop: httpx.AsyncClient, key: str, transaction_id: str
) -> dict[str, Any]:
    answer = await shop.get(f"{LINES}/{transaction_id}", headers=bearer(key))
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store, private"
    found: dict[str, Any] = json.loads(answer.content)
    return found


async def customer(server: LiveServer, wallet: LocalAccount) -> int:
    async with server.gate.db.read() as session:
        found = await customer_of_wallet(session, address_of(wallet))
    assert found is not None
    return found


async def give_trial(
    server: LiveServer, owner: int, micro: int, reference: str = "test"
) -> None:
    """Credits that expire tomorrow, so they burn before those that were bought."""
    tomorrow = server.gate.db.clock.now_ms() + 86_400_000

    async def work(session: WriteSession) -> None:
        await grant_free(
            session,
            owner,
            MicroCredits(micro),
            category=GrantCategory.TRIAL,
            terms=LotTerms(expires_at_ms=tomorrow),
            idempotency_key=secrets.token_bytes(16),
            reference=reference,
            memo="Trial",
        )

    await server.gate.db.write(work)


async def give_back(server: LiveServer, charge: str, micro: int) -> None:
    async def work(session: WriteSession) -> None:
        await refund(
            session,
            decode_id("ltx", charge),
            MicroCredits(micro),
            idempotency_key=secrets.token_bytes(16),
            reference="a note between us: he complains a lot",
        )

    await server.gate.db.write(work)


async def test_a_payment_a_charge_of_two_lots_and_its_refunds_are_explained(
    shop: httpx.AsyncClient, shop_server: LiveServer, chain: LocalChain
) -> None:
    wallet = await funded(chain)
    bought = (await buy(shop, wallet)).json()["topup"]
    owner = await customer(shop_server, wallet)
    await give_trial(shop_server, owner, 2_000_000)
    key = await issue(shop_server, wallet, Scope.READ, Scope.SPEND)
    called = await shop.get(
        "/features/words?words=" + ",".join("abcdefghijkl"), headers=bearer(key)
    )
    assert called.headers["credits-charged"] == "3"
    charge, trial, topup = await lines_of(shop, key)
    await give_back(shop_server, charge["id"], 500_000)
    await give_back(shop_server, charge["id"], 750_000)
    second, first, *_ = await lines_of(shop, key)

    found = await explained(shop, key, charge["id"])
    assert {name: found[name] for name in charge} == charge
    code = f"liabilities:customer:{encode_id('cus', owner)}:credits"
    assert found["entries"] == [
        {"account": code, "asset": "CREDIT", "amount": -3, "balance_after": 49},
        {
            "account": "revenue:feature:words",
            "asset": "CREDIT",
            "amount": 3,
            "balance_after": None,
        },
    ]
    given, paid = found["lots"]
    assert (given["category"], given["credits"], given["cost"]) == ("trial", -2, None)
    assert (paid["category"], paid["credits"]) == ("paid", -1)
    assert paid["cost"] == {"asset": "USDC", "amount": Decimal("0.1")}
    call = found["call"]
    assert call.pop("hold").startswith("hld_")
    assert call.pop("occurred_at_ms") >= charge["posted_at_ms"]
    assert call.pop("catalog_version")
    assert call == {"feature": "words", "quantity": 12, "credits": 3}
    assert (found["payment"], found["reverses"]) == (None, None)
    assert found["reversed_by"] == [
        {"id": first["id"], "credits": Decimal("0.5")},
        {"id": second["id"], "credits": Decimal("0.75")},
    ]

    back = await explained(shop, key, second["id"])
    assert (back["reverses"], back["reversed_by"]) == (charge["id"], [])
    assert (back["call"], back["payment"]) == (None, None)
    # The last drawn lot gets its credits back first, and it was the one paid for.
    assert [(lot["id"], lot["credits"]) for lot in back["lots"]] == [
        (paid["id"], Decimal("0.5")),
        (given["id"], Decimal("0.25")),
    ]
    assert back["lots"][0]["cost"] == {"asset": "USDC", "amount": Decimal("0.05")}
    assert "complains" not in str(back), "what the seller notes is his own"

    source = await explained(shop, key, topup["id"])
    assert source["payment"] == bought | {"state": source["payment"]["state"]}
    assert source["payment"]["payer"] == wallet.address
    assert source["payment"]["transaction"].startswith("0x")
    assert source["payment"]["block"] > 0
    amounts = [(one["asset"], one["amount"]) for one in source["entries"]]
    assert amounts == [("USDC", -5), ("USDC", 5), ("CREDIT", -50), ("CREDIT", 50)]
    (lot,) = source["lots"]
    assert (lot["id"], lot["credits"], lot["cost"]["amount"]) == (paid["id"], 50, 5)
    gift = await explained(shop, key, trial["id"])
    assert (gift["payment"], gift["lots"][0]["cost"]) == (None, None)

    wanted = {"feature": "words", "quantity": "1.5"}
    await shop.post("/api/credits/deduct", json=wanted, headers=bearer(key))
    (at_once, *_) = await lines_of(shop, key)
    call = (await explained(shop, key, at_once["id"]))["call"]
    assert (call["quantity"], call["hold"]) == (Decimal("1.5"), None)


@ON_SQLITE
async def test_a_payment_is_shown_with_its_bonus_and_to_nobody_but_its_customer(
    shop: httpx.AsyncClient, shop_server: LiveServer, chain: LocalChain
) -> None:
    wallet, other = await funded(chain), Account.create()
    bought = (await buy(shop, wallet)).json()["topup"]
    keys = await issue(shop_server, wallet), await customer_key(shop_server, other, 1)
    reference = f"topup:{decode_id('top', bought['id'])}"
    for one in (wallet, other):
        owner = await customer(shop_server, one)
        await give_trial(shop_server, owner, 1, reference)
    shown = []
    for key in keys:
        (newest, *_) = await lines_of(shop, key)
        shown.append((await explained(shop, key, newest["id"]))["payment"])
    assert (shown[0]["id"], shown[1]) == (bought["id"], None)


async def test_two_customers_in_one_transaction_learn_nothing_of_each_other(
    shop: httpx.AsyncClient, shop_server: LiveServer
) -> None:
    one, two = Account.create(), Account.create()
    keys = [await customer_key(shop_server, wallet, 10) for wallet in (one, two)]
    owners = [await customer(shop_server, wallet) for wallet in (one, two)]
    giver, taker = (chart.customer_credits(owner) for owner in owners)
    fee = chart.feature_revenue("words")
    transfers = [
        Transfer(giver, taker, Amount(4_000_000, CREDIT)),
        Transfer(taker, fee, Amount(1_500_000, CREDIT)),
    ]
    # No charge: that would be of one customer, and have its use.
    key = secrets.token_bytes(16)
    moved = Posting(TransactionKind.SUSPENSE, key, transfers, "moved")
    posted = await shop_server.gate.db.write(lambda session: post(session, moved))
    shown = encode_id("ltx", posted.ledger_transaction_id)

    gave, took = [await explained(shop, key, shown) for key in keys]
    assert (gave["credits"], gave["balance_after"]) == (-4, 6)
    assert [entry["amount"] for entry in gave["entries"]] == [-4]
    assert [lot["credits"] for lot in gave["lots"]] == [-4]
    assert (took["credits"], took["balance_after"]) == (Decimal("2.5"), Decimal("12.5"))
    assert [entry["amount"] for entry in took["entries"]] == [4, Decimal("-1.5"), 1.5]
    assert {lot["id"] for lot in gave["lots"]}.isdisjoint(
        lot["id"] for lot in took["lots"]
    )
    for found, other in ((gave, owners[1]), (took, owners[0])):
        assert encode_id("cus", other) not in str(found)


@ON_SQLITE
async def test_nobody_learns_whether_a_foreign_or_misspelt_id_exists(
    shop: httpx.AsyncClient, shop_server: LiveServer
) -> None:
    wallet = Account.create()
    owners, other = [
        await customer_key(shop_server, one, 5) for one in (wallet, Account.create())
    ]
    (line,) = await lines_of(shop, owners)
    assert (await explained(shop, owners, line["id"]))["credits"] == 5
    refusals = []
    for asked in (
        line["id"],
        "ltx_0000000000001",
        "ltx_fzzzzzzzzzzzz",
        "ltx_zzzzzzzzzzzzz",
        line["id"].replace("ltx", "top"),
        line["id"].upper(),
        "ltx_",
        "-1",
        "%00",
        "é" * 50,
    ):
        answer = await shop.get(f"{LINES}/{asked}", headers=bearer(other))
        assert refusal_of(answer) == (404, "unknown_transaction"), asked
        refusals.append(answer.content)
    assert len(set(refusals)) == 1
    assert (await shop.get(f"{LINES}/{line['id']}")).status_code == 401


@ON_SQLITE
async def test_a_key_needs_the_right_to_read_and_a_service_key_a_customer(
    shop: httpx.AsyncClient, shop_server: LiveServer
) -> None:
    wallet = Account.create()
    key = await customer_key(shop_server, wallet, 5)
    (line,) = await lines_of(shop, key)
    blind = await issue(shop_server, wallet, Scope.SPEND)
    answer = await shop.get(f"{LINES}/{line['id']}", headers=bearer(blind))
    assert refusal_of(answer) == (403, "scope_missing")
    seller = bearer(await issue(shop_server, None))
    answer = await shop.get(f"{LINES}/{line['id']}", headers=seller)
    assert refusal_of(answer) == (422, "invalid_request")
    named = seller | {"Tallystick-Customer": wallet.address}
    answer = await shop.get(f"{LINES}/{line['id']}", headers=named)
    assert answer.json()["id"] == line["id"]


@ON_SQLITE
async def test_an_explanation_is_a_handful_of_reads_each_by_an_index(
    shop: httpx.AsyncClient, shop_server: LiveServer
) -> None:
    key = await customer_key(shop_server, Account.create(), 5)
    await shop.get("/features/words?words=a", headers=bearer(key))
    (charge, _) = await lines_of(shop, key)
    await give_back(shop_server, charge["id"], 100_000)
    runs: list[list[tuple[str, Any]]] = []

    def note(_c: object, _u: object, sql: str, values: Any, *_rest: object) -> None:
        if sql.lstrip().startswith("SELECT"):
            runs[-1].append((sql, values))

    engine = shop_server.gate.db.reader
    event.listen(engine.sync_engine, "before_cursor_execute", note)
    try:
        for _ in range(3):
            runs.append([])
            await explained(shop, key, charge["id"])
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", note)
    # Workers read of other tables, too, but hardly three times in a row.
    mine = min(
        ([one for one in reads if not _OF_OTHERS.search(one[0])] for reads in runs),
        key=len,
    )
    assert 1 < len(mine) <= 4, mine
    async with engine.connect() as connection:
        for sql, values in mine:
            plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)
            steps = [step[3] for step in plan.all()]
            assert not [step for step in steps if step.startswith("SCAN")], steps

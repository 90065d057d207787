"""``tallystick review``, ``debt`` and ``acts``, as an operator runs them."""

import json
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from tallystick.kernel.db import Database, query
from tallystick.kernel.ids import encode_id
from tallystick.operators.acts import Signed, note_act
from tests.credits.test_debts import claw_back
from tests.house import DOLLAR, House, Wallet
from tests.ledger.bookings import ALICE, book, buy, charge
from tests.processes import Ended, run
from tests.strangers import submit
from tests.test_cli import require_refusal

CUSTOMER = encode_id("cus", ALICE)
BY_ADA = ("--operator", "Ada", "--reason", "She paid by bank")


async def test_a_debt_is_listed_forgiven_in_part_and_noted(
    db: Database, database_url: str, tmp_path: Path
) -> None:
    bought = await buy(db, 1_000_000, 10_000_000)
    await book(db, charge(6_500_000, "a call"))
    await claw_back(db, bought)
    await db.close()

    async def tallystick(*arguments: str) -> Ended:
        return await run(*arguments, cwd=tmp_path, DATABASE_URL=database_url)

    listed = await tallystick("debt", "list")
    assert listed.out == f"{CUSTOMER}  owes 6.5 credits\n"
    part = ("debt", "forgive", CUSTOMER, "--credits", "2.5", *BY_ADA)
    told = await tallystick(*part, "--key", "case 7")
    assert told.out == f"{CUSTOMER} owes 2.5 credits less.\n"
    again = await tallystick(*part, "--key", "case 7")
    assert again.out == (
        f"{CUSTOMER} owes 2.5 credits less; an earlier try had done it.\n"
    )
    too_much = await tallystick(
        "debt", "forgive", CUSTOMER, "--credits", "4.000001", *BY_ADA, "--json"
    )
    require_refusal(too_much, "owes 4 credits", "tallystick debt list")
    unsigned = await tallystick(
        "debt", "forgive", CUSTOMER, "--operator", "Ada", "--reason", " "
    )
    require_refusal(unsigned, "reason")
    rest = json.loads(
        (await tallystick("debt", "forgive", CUSTOMER, *BY_ADA, "--json")).out
    )
    assert rest == {"customer": CUSTOMER, "forgiven": 4, "replayed": False}
    assert (await tallystick("debt", "list")).out == "Nobody owes anything.\n"

    noted = json.loads((await tallystick("acts", CUSTOMER, "--json")).out)["acts"]
    assert [(one["operator"], one["act"]) for one in noted] == [
        ("ada", "forgive_debt")
    ] * 2
    assert "She paid by bank" in (await tallystick("acts")).out
    assert (await tallystick("acts", "cus_0000000000000")).out == ""


@pytest.mark.parametrize(
    "change", ["UPDATE operator_act SET operator = 'Eve'", "DELETE FROM operator_act"]
)
async def test_nobody_rewrites_what_operators_did(db: Database, change: str) -> None:
    signed = Signed("Ada", "She paid by bank")
    await db.write(lambda session: note_act(session, signed, "forgive_debt", CUSTOMER))
    with pytest.raises(DBAPIError, match="append-only"):
        await db.write(lambda session: query(session, change))


async def test_a_payment_in_quarantine_is_explained_and_released(
    any_house: House, wallet: Wallet, tmp_path: Path
) -> None:
    shop = await any_house.start()
    signed = await wallet.authorize(any_house.pay_to, DOLLAR)
    other = await wallet.authorize(any_house.pay_to, 3 * DOLLAR, nonce=signed[0].nonce)
    topup_id = await shop.claim(signed)
    await submit(any_house.local, other)
    await shop.observe()
    await shop.settle(topup_id)
    shown = encode_id("top", topup_id)
    url = any_house.database_url

    async def review(*arguments: str) -> Ended:
        return await run("review", *arguments, cwd=tmp_path, DATABASE_URL=url)

    words = (await review("list")).out
    assert words.startswith(f"{shown}  $1 of 0x"), words
    assert "$3 arrived in 0x" in words
    (row,) = json.loads((await review("list", "--json")).out)["topups"]
    assert row["reason"] == "contradictory_evidence"
    assert row["next_step"] in words

    released = await review("release", shown, *BY_ADA, "--json")
    assert json.loads(released.out) == {"id": shown, "released": True}
    assert (await shop.topup(topup_id)).state == "watch"
    require_refusal(await review("release", shown, *BY_ADA), "is watch")
    assert (await review("list")).out == "Nothing is in quarantine.\n"
    noted = await run("acts", "--json", cwd=tmp_path, DATABASE_URL=url)
    assert len(json.loads(noted.out)["acts"]) == 1, "what was refused is no act"


async def test_a_payment_that_nothing_will_ever_end_is_closed_and_noted(
    any_house: House, wallet: Wallet, tmp_path: Path
) -> None:
    shop = await any_house.start()
    signed = await wallet.authorize(any_house.pay_to, DOLLAR)
    other = await wallet.authorize(any_house.pay_to, 3 * DOLLAR, nonce=signed[0].nonce)
    topup_id = await shop.claim(signed)
    await submit(any_house.local, other)
    await shop.settle(topup_id)
    shown, url = encode_id("top", topup_id), any_house.database_url

    async def close(*more: str) -> Ended:
        arguments = ("review", "close", shown, *BY_ADA, *more)
        return await run(*arguments, cwd=tmp_path, DATABASE_URL=url)

    assert json.loads((await close("--json")).out) == {"id": shown, "closed": True}
    topup = await shop.topup(topup_id)
    assert (topup.state, topup.reason) == ("canceled", "closed_by_operator")
    require_refusal(await close(), "is canceled")
    noted = await run("acts", shown, "--json", cwd=tmp_path, DATABASE_URL=url)
    assert [one["act"] for one in json.loads(noted.out)["acts"]] == ["close_topup"]
    assert await shop.credits_of(wallet) == 0

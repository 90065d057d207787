"""Credits of plain transfers that were redeemed go back like those of any payment."""

import asyncio
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from tallystick.kernel.money import MicroCredits
from tallystick.ledger import chart
from tallystick.ledger.errors import InsufficientCredits
from tallystick.metering.charges import Usage, charge
from tallystick.migrations import downgrade, upgrade
from tallystick.payments.models.paybacks import Payback, PaybackState
from tallystick.payments.observing.confirm import confirm
from tallystick.payments.observing.redeeming import Redeemed, Redeemer, redeem
from tallystick.payments.paybacks.errors import (
    NothingToPayBack,
    PaybackTooLarge,
    TransferNotFinal,
    UnknownRedemption,
)
from tallystick.payments.paybacks.issuing import (
    hand_out,
    pay_from_float_key,
    put_in_batch,
    take_signature,
)
from tallystick.payments.paybacks.origins import PlainTransfer
from tallystick.payments.paybacks.paying import pay_out
from tallystick.payments.paybacks.proposing import Proposal, propose
from tallystick.payments.paybacks.terms import safe_batch
from tallystick.payments.rail import Relayer
from tests.chain.payer import transfer_call
from tests.house import DOLLAR, RATE, House, Wallet
from tests.payments.paybacks.scenes import CREDIT, RULES, WHY, Shop
from tests.payments.paybacks.test_commands import payback, told  # noqa: F401  # a fixture
from tests.payments.paybacks.test_races import another, outcomes

S = PaybackState


@dataclass
class Sent:
    """A plain transfer that was redeemed."""

    tx_hash: bytes
    customer_id: int


async def sent(shop: Shop, wallet: Wallet, usdc: int = 5 * DOLLAR) -> bytes:
    """A plain transfer that is safe; its transaction."""
    rail = shop.process.rail
    call = transfer_call(rail.pay_to, usdc)
    done = await shop.local.send(wallet.address, shop.local.token, call)
    await shop.local.mine(1)
    await shop.process.observe()
    await confirm(shop.process.db, rail)
    return done.tx_hash


async def redeemed_of(shop: Shop, wallet: Wallet, tx_hash: bytes) -> Redeemed:
    rail = shop.process.rail
    # What is safe comes before what is final.
    rail.outlook.safe_number = 10**9
    who = Redeemer(None, wallet.address)
    return await redeem(shop.process.db, rail, RATE, who, tx_hash)


async def redeemed(shop: Shop, wallet: Wallet, usdc: int = 5 * DOLLAR) -> Sent:
    tx_hash = await sent(shop, wallet, usdc)
    done = await redeemed_of(shop, wallet, tx_hash)
    await shop.finalized()
    return Sent(tx_hash, done.customer_id)


async def back(
    shop: Shop, one: Sent, credits_back: int | None = None, log: int | None = None
) -> Payback:
    some = None if credits_back is None else MicroCredits(credits_back)
    transfer = PlainTransfer(one.tx_hash, log)
    wanted = Proposal(None, "ann", WHY, some, transfer)
    return await propose(shop.process.db, shop.process.rail, wanted)


async def spend(shop: Shop, one: Sent, amount: int, key: int) -> None:
    usage = Usage(one.customer_id, "ai_analyst", 1_000_000, MicroCredits(amount), "t")
    await shop.process.db.write(
        lambda session: charge(session, usage, idempotency_key=key.to_bytes(16, "big"))
    )


async def test_what_is_unused_of_a_transfer_goes_back_to_who_sent_it_once(
    any_shop: Shop, wallet: Wallet
) -> None:
    shop = any_shop
    one = await redeemed(shop, wallet)
    await spend(shop, one, 20 * CREDIT, 1)
    part = await back(shop, one, 10 * CREDIT)
    rest = await back(shop, one)
    assert (part.usdc, rest.usdc) == (DOLLAR, 2 * DOLLAR)
    assert part.nonce != rest.nonce
    assert await shop.process.credits_of(wallet) == 0
    with pytest.raises(NothingToPayBack):
        await back(shop, one)
    db, rail = shop.process.db, shop.process.rail
    await pay_from_float_key(db, rail, part.id, "ann")
    await pay_out(db, rail)
    await shop.finalized()
    handed = await hand_out(db, rail, rest.id, "ann")
    await take_signature(db, rail, rest.id, shop.signature(handed))
    await pay_out(db, rail)
    await shop.finalized()
    assert {(await shop.payback(row)).state for row in (part, rest)} == {S.PAID}
    assert await shop.dollars(wallet.address) == 98 * DOLLAR
    assert await shop.booked(chart.paybacks()) == 0
    assert (await shop.process.audit()).findings == []


async def test_a_safe_pays_it_back_and_a_cancelled_one_returns_to_its_lot(
    shop: Shop, wallet: Wallet
) -> None:
    one = await redeemed(shop, wallet)
    changed = await back(shop, one)
    await shop.cancel(changed)
    assert await shop.process.credits_of(wallet) == 50 * CREDIT
    again = await back(shop, one)
    assert (again.number, again.usdc) == (2, 5 * DOLLAR)
    db, rail = shop.process.db, shop.process.rail
    issued = await put_in_batch(db, rail, [again.id], "ann")
    await shop.execute(safe_batch(rail.domain, rail.pay_to, issued, now_ms=0))
    await shop.finalized()
    assert (await shop.payback(again)).state == S.PAID
    assert await shop.dollars(wallet.address) == 100 * DOLLAR


async def test_calls_and_a_payback_of_all_never_take_more_than_there_is(
    any_shop: Shop, wallet: Wallet, any_house: House, float_key: Relayer
) -> None:
    """Charges and proposals of two processes at once."""
    other = await another(any_shop, any_house, float_key)
    one = await redeemed(any_shop, wallet)
    works = [spend(any_shop, one, 10 * CREDIT, key) for key in range(4)]
    works += [spend(other, one, 10 * CREDIT, key) for key in range(4, 6)]
    proposals = [back(any_shop, one), back(other, one), back(any_shop, one)]
    found = await asyncio.gather(*works, *proposals, return_exceptions=True)
    spent = sum(outcome is None for outcome in found[:6]) * 10 * CREDIT
    refused = [outcome for outcome in found[:6] if outcome is not None]
    assert all(isinstance(outcome, InsufficientCredits) for outcome in refused)
    gone = [outcome for outcome in found[6:] if isinstance(outcome, Payback)]
    rest = [outcome for outcome in found[6:] if not isinstance(outcome, Payback)]
    assert all(isinstance(outcome, NothingToPayBack) for outcome in rest)
    left = await any_shop.process.credits_of(wallet)
    assert spent + sum(outcome.credits for outcome in gone) + left == 50 * CREDIT
    assert (await any_shop.process.audit()).findings == []


async def test_parts_at_once_never_exceed_the_whole(
    any_shop: Shop, wallet: Wallet
) -> None:
    one = await redeemed(any_shop, wallet)
    done, refused = await outcomes(*(back(any_shop, one, 20 * CREDIT) for _ in "12345"))
    assert len(done) == 2
    assert {type(error) for error in refused} <= {PaybackTooLarge, NothingToPayBack}


async def test_nothing_goes_back_that_is_not_final_or_was_not_redeemed(
    shop: Shop, wallet: Wallet
) -> None:
    tx_hash = await sent(shop, wallet)
    nobodys = Sent(tx_hash, 0)
    with pytest.raises(UnknownRedemption):
        await back(shop, nobodys)
    await redeemed_of(shop, wallet, tx_hash)
    with pytest.raises(TransferNotFinal):
        await back(shop, nobodys)
    await shop.finalized()
    assert (await back(shop, nobodys)).usdc == 5 * DOLLAR
    topup = await shop.bought(wallet)
    assert topup.tx_hash is not None
    with pytest.raises(UnknownRedemption):
        await back(shop, Sent(topup.tx_hash, 0))


async def test_books_of_before_a_payback_sign_the_same_and_do_not_pay_again(
    shop: Shop, wallet: Wallet, house: House, tmp_path: Path
) -> None:
    one = await redeemed(shop, wallet)
    path = house.database_url.removeprefix("sqlite+aiosqlite:///")
    backup = tmp_path / "backup.sqlite3"
    with sqlite3.connect(path) as source, sqlite3.connect(backup) as target:
        source.backup(target)
    source.close()
    target.close()
    first = await back(shop, one)
    await pay_from_float_key(shop.process.db, shop.process.rail, first.id, "ann")
    await pay_out(shop.process.db, shop.process.rail)
    await shop.finalized()

    copied = House(house.local, f"sqlite+aiosqlite:///{backup}", 0, house.clock)
    copied.pay_to, copied.seal = house.pay_to, house.seal
    key = shop.process.rail.float_key
    process = await copied.restart(paybacks=RULES, float_key=key)
    try:
        old = Shop(process, shop.local, shop.seller)
        second = await back(old, one)
        assert second.nonce == first.nonce
        await pay_from_float_key(process.db, process.rail, second.id, "ann")
        await pay_out(process.db, process.rail)
        await old.finalized()
        assert (await old.payback(second)).state == S.PAID
    finally:
        await copied.stop()
    assert await shop.dollars(wallet.address) == 100 * DOLLAR


async def test_an_operator_names_the_transaction(
    shop: Shop,
    wallet: Wallet,
    payback,  # noqa: ANN001, F811  # the fixture
) -> None:
    one = await redeemed(shop, wallet)
    name = f"0x{one.tx_hash.hex()}"
    options = ("--operator", "ann", "--reason", "asked for by mail")
    made = await told(payback, "propose", name, *options, "--credits", "5")
    assert (made["usdc"], made["topup"]) == (0.5, None)
    assert made["is_of_transfer"] is True
    listed = await told(payback, "list")
    assert [row["id"] for row in listed["paybacks"]] == [made["id"]]
    ended = await payback("propose", "0x" + "00" * 32, *options)
    assert ended.code == 2
    assert "was redeemed" in ended.err


async def test_of_several_transfers_in_one_transaction_each_is_named(
    shop: Shop, wallet: Wallet
) -> None:
    one = await redeemed(shop, wallet)
    with pytest.raises(UnknownRedemption):
        await back(shop, one, log=99)
    assert (await back(shop, one, log=0)).usdc == 5 * DOLLAR


async def test_no_step_back_forgets_a_payback_of_a_transfer(
    any_shop: Shop, wallet: Wallet
) -> None:
    """Those of top-ups are what they were when the tables are made anew."""
    shop, db = any_shop, any_shop.process.db
    ours = await shop.propose(await shop.bought(wallet), 5 * CREDIT)
    before = (await shop.payback(ours)).model_dump()
    await downgrade(db, "0023")
    await upgrade(db)
    assert (await shop.payback(ours)).model_dump() == before
    await back(shop, await redeemed(shop, wallet), 5 * CREDIT)
    with pytest.raises(IntegrityError):
        await downgrade(db, "0023")
    assert (await shop.payback(ours)).model_dump() == before
    assert (await shop.process.audit()).findings == []

"""What may go back: what is unused of a final payment, and never more than was paid."""

import pytest
from sqlalchemy import update
from sqlmodel import col

from tallystick.credits import holds
from tallystick.credits.models import Receivable
from tallystick.kernel.errors import TallystickError
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import MicroCredits
from tallystick.ledger import chart
from tallystick.ledger.accounts import ensure_accounts
from tallystick.migrations import downgrade
from tallystick.operators.acts import acts_on
from tallystick.operators.errors import UnusableWords
from tallystick.payments.models.paybacks import PaybackState
from tallystick.payments.models.topups import TopUp, TopUpState
from tallystick.payments.paybacks.errors import (
    CustomerOwes,
    NothingToPayBack,
    PaybackNotReady,
    PaybackTooLarge,
    SameOperator,
    TopUpNotFinal,
    UnknownPayback,
)
from tallystick.payments.paybacks.issuing import hand_out
from tallystick.payments.paybacks.proposing import Proposal, approve
from tests.house import DOLLAR, Wallet
from tests.payments.paybacks.scenes import CREDIT, Shop

S = PaybackState


async def test_what_is_unused_leaves_its_lot_for_what_it_had_cost(
    any_shop: Shop, wallet: Wallet
) -> None:
    topup = await any_shop.bought(wallet)
    await any_shop.spend(topup, 20 * CREDIT)
    payback = await any_shop.propose(topup)
    assert (payback.credits, payback.usdc) == (30 * CREDIT, 3 * DOLLAR)
    assert payback.to_address == wallet.address
    assert payback.state == S.APPROVED
    assert await any_shop.process.credits_of(wallet) == 0
    assert await any_shop.booked(chart.paybacks()) == -30 * CREDIT
    cancelled = await any_shop.cancel(payback)
    assert (cancelled.state, cancelled.cancelled_by) == (S.CANCELLED, "bob")
    assert await any_shop.process.credits_of(wallet) == 30 * CREDIT
    assert await any_shop.booked(chart.paybacks()) == 0
    again = await any_shop.propose(topup)
    assert (again.number, again.usdc) == (2, 3 * DOLLAR)
    assert again.nonce != payback.nonce


async def test_parts_go_back_one_by_one_and_never_more_than_was_paid(
    shop: Shop, topup: TopUp
) -> None:
    """A third of a credit's cost is rounded down each time."""
    for _ in range(3):
        payback = await shop.propose(topup, 3_333_333)
        assert payback.usdc == 333_333
    with pytest.raises(PaybackTooLarge):
        await shop.propose(topup, 40_000_002)
    rest = await shop.propose(topup)
    assert rest.credits == 40_000_001
    assert 3 * 333_333 + rest.usdc <= topup.value
    with pytest.raises(NothingToPayBack):
        await shop.propose(topup)


@pytest.mark.parametrize("amount", [0, -1])
async def test_nothing_and_less_cannot_be_proposed(
    shop: Shop, topup: TopUp, amount: int
) -> None:
    with pytest.raises(PaybackTooLarge):
        await shop.propose(topup, amount)


async def test_what_costs_less_than_the_smallest_unit_stays(
    shop: Shop, topup: TopUp
) -> None:
    with pytest.raises(NothingToPayBack):
        await shop.propose(topup, 9)


async def test_promotional_credits_never_go_back(shop: Shop, wallet: Wallet) -> None:
    """A bonus came with the payment, and burns before what was paid for."""
    process = shop.process
    signed = await wallet.authorize(process.rail.pay_to, 5 * DOLLAR)
    topup_id = await process.claim(signed)
    bonus = update(TopUp).where(col(TopUp.id) == topup_id).values(bonus=8 * CREDIT)
    async with process.db.writer.begin() as connection:
        await connection.execute(bonus)
    await process.settle(topup_id)
    topup = await shop.made_final(topup_id)
    assert await process.credits_of(wallet) == 58 * CREDIT
    await shop.spend(topup, 10 * CREDIT)
    payback = await shop.propose(topup)
    assert (payback.credits, payback.usdc) == (48 * CREDIT, 4_800_000)
    assert await process.credits_of(wallet) == 0


async def test_what_a_call_holds_stays_with_it(shop: Shop, topup: TopUp) -> None:
    hold_id = await shop.hold(topup, 10 * CREDIT)
    payback = await shop.propose(topup)
    assert payback.credits == 40 * CREDIT
    await shop.process.db.write(lambda session: holds.release(session, hold_id))
    assert (await shop.propose(topup)).credits == 10 * CREDIT


async def test_nothing_goes_back_before_its_payment_is_final(
    shop: Shop, wallet: Wallet
) -> None:
    process = shop.process
    signed = await wallet.authorize(process.rail.pay_to, DOLLAR)
    topup_id = await process.claim(signed)
    for topup in (await process.topup(topup_id), await process.settle(topup_id)):
        with pytest.raises(TopUpNotFinal):
            await shop.propose(topup)
    assert await process.credits_of(wallet) == 10 * CREDIT
    assert (await shop.propose(await shop.made_final(topup_id))).usdc == DOLLAR


@pytest.mark.parametrize("state", [TopUpState.QUARANTINE, TopUpState.REVERSED])
async def test_nothing_goes_back_of_what_a_person_must_look_at(
    shop: Shop, topup: TopUp, state: TopUpState
) -> None:
    async def move(to: str) -> None:
        change = update(TopUp).where(col(TopUp.id) == topup.id).values(state=to)
        async with shop.process.db.writer.begin() as connection:
            await connection.execute(change)

    await move(state)
    with pytest.raises(TopUpNotFinal):
        await shop.propose(topup)
    await move(TopUpState.FINAL)


async def test_nobody_who_owes_gets_money_back(shop: Shop, topup: TopUp) -> None:
    payback = await shop.propose(topup, 5 * CREDIT)
    owed = await _owe(shop, topup)
    with pytest.raises(CustomerOwes):
        await shop.propose(topup)
    with pytest.raises(CustomerOwes):
        await hand_out(shop.process.db, shop.process.rail, payback.id, "ann")
    await _owe(shop, topup, -owed)
    await hand_out(shop.process.db, shop.process.rail, payback.id, "ann")


async def _owe(shop: Shop, topup: TopUp, owed: int = CREDIT) -> int:
    """The row alone, which the audit would find."""
    customer_id = topup.customer_id
    name = chart.receivable(customer_id)
    db = shop.process.db
    account_id = (await db.write(lambda one: ensure_accounts(one, [name])))[name.code]
    async with db.writer.begin() as connection:
        table = Receivable.__table__  # type: ignore[attr-defined]  # SQLModel's
        if owed > 0:
            row = {"ledger_account_id": account_id, "customer_id": customer_id}
            await connection.execute(table.insert().values(owed=owed, **row))
        else:
            await connection.execute(table.update().values(owed=0))
    return owed


async def test_a_large_payback_needs_a_second_operator(
    shop: Shop, wallet: Wallet
) -> None:
    db, rail = shop.process.db, shop.process.rail
    topup = await shop.bought(wallet, 50 * DOLLAR)
    small = await shop.propose(topup, 200 * CREDIT)
    assert (small.state, small.usdc) == (S.APPROVED, 20 * DOLLAR)
    large = await shop.propose(topup, 210 * CREDIT, operator="Ann ")
    assert large.state == S.PROPOSED
    with pytest.raises(PaybackNotReady):
        await hand_out(db, rail, large.id, "bob")
    for same in ("ann", "ANN"):
        with pytest.raises(SameOperator):
            await approve(db, large.id, same)
    approved = await approve(db, large.id, "Bob")
    assert (approved.state, approved.approved_by) == (S.APPROVED, "bob")
    with pytest.raises(PaybackNotReady):
        await approve(db, large.id, "carol")
    assert (await hand_out(db, rail, large.id, "ann")).state == S.ISSUED
    async with db.read() as session:
        noted = await acts_on(session, encode_id("pbk", large.id))
    assert [(one.act, one.operator) for one in noted] == [
        ("propose_payback", "ann"),
        ("approve_payback", "bob"),
        ("issue_payback", "ann"),
    ], "and nothing of what was refused"


@pytest.mark.parametrize(
    ("operator", "reason"),
    [("", "why"), (" ", "why"), ("a\nb", "why"), ("a" * 65, "why"), ("ann", " \n")],
)
def test_nobody_and_no_reason_propose_nothing(operator: str, reason: str) -> None:
    with pytest.raises(UnusableWords):
        Proposal(1, operator, reason, MicroCredits(1))


async def test_an_unknown_one_is_told(shop: Shop, topup: TopUp) -> None:
    with pytest.raises(UnknownPayback):
        await approve(shop.process.db, 7, "bob")
    with pytest.raises(TallystickError, match="names no top-up"):
        await shop.propose(topup.model_copy(update={"id": 7}))


async def test_no_step_back_forgets_what_went_back(shop: Shop, topup: TopUp) -> None:
    payback = await shop.propose(topup)
    with pytest.raises(Exception, match="nothing_may_be"):
        await downgrade(shop.process.db, "0019")
    assert (await shop.payback(payback)).state == S.APPROVED

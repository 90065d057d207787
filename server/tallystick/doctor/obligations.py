"""What is owed and under way: paybacks, and settlements for other sellers."""

from dataclasses import dataclass

from sqlmodel import col, select

from tallystick.chain.errors import RpcErrorAnswer, RpcUnavailable, TokenUnreadable
from tallystick.chain.token import nonce_used
from tallystick.doctor.findings import Examination
from tallystick.kernel.db import Database, now_ms
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import format_usdc
from tallystick.payments.gas.solvency import ether
from tallystick.payments.merchants.health import MerchantHealth, merchant_health
from tallystick.payments.models.paybacks import Payback, PaybackWay
from tallystick.payments.paybacks.funds import check_funds
from tallystick.payments.paybacks.health import (
    PaybackHealth,
    Standing,
    Waiting,
    payback_health,
)
from tallystick.payments.paybacks.reading import issued_on
from tallystick.payments.rail import Rail

_DAY = 24 * 3600
_LIST = "Look at `tallystick payback list --state"


@dataclass(frozen=True, slots=True)
class _Patience:
    """How long paybacks may stand so, in seconds, and what to do then."""

    seconds: int
    words: str
    next_step: str


_PATIENCE = {
    Standing.PROPOSED: _Patience(
        _DAY,
        "wait for a second operator",
        f"{_LIST} proposed`, then approve or cancel each.",
    ),
    Standing.APPROVED: _Patience(
        _DAY,
        "are approved, and nobody lets them be paid",
        f"{_LIST} approved`, then pay, page or batch each.",
    ),
    # The float's worker signs within seconds, a seller in his browser within a day.
    Standing.UNSIGNED: _Patience(
        _DAY,
        "are issued, and nobody has signed them",
        f"{_LIST} issued`: sign them, or see `payback_waits` in the worker's log.",
    ),
    Standing.BATCHED: _Patience(
        7 * _DAY,
        "are in a Safe's batch that was not executed",
        "Execute the batch, or reject it and cancel them with --batch-is-void.",
    ),
    Standing.SIGNED: _Patience(
        3600,
        "are signed, and no final block shows them",
        "See `payback_waits` in the log of the worker that has PAYBACK_KEY.",
    ),
    Standing.LAPSED: _Patience(
        0,
        "were issued, and their window is over",
        f"{_LIST} issued`, then issue each again as before, or cancel it.",
    ),
}


async def examine_paybacks(exam: Examination, db: Database, rail: Rail) -> None:
    """Whether what operators let go back goes, and the float can pay for it."""
    exam.looking("paybacks")
    async with db.read() as session:
        found = await payback_health(session, rail, now_ms(session))
    for one in found.waiting:
        _tell_late(exam, one)
    await _examine_float(exam, db, rail)
    if not exam.count_of("paybacks"):
        exam.ok("paybacks", _summary(found))


def _summary(found: PaybackHealth) -> str:
    count = sum(one.count for one in found.waiting)
    if not count:
        return "none is under way"
    usdc = format_usdc(sum(one.usdc for one in found.waiting))
    return f"{count} under way with {usdc}, none of them late"


def _tell_late(exam: Examination, one: Waiting) -> None:
    patience = _PATIENCE[one.standing]
    if one.oldest_seconds < patience.seconds:
        return
    said = (
        f"{one.count} with {format_usdc(one.usdc)} {patience.words}; the oldest for"
        f" {one.oldest_seconds // 60} minutes"
    )
    exam.warn("paybacks", said, patience.next_step)


async def _examine_float(exam: Examination, db: Database, rail: Rail) -> None:
    """Whether it has the dollars for what it was told to pay; its gas is told before."""
    query = select(Payback).where(
        *issued_on(rail), col(Payback.way) == PaybackWay.FLOAT
    )
    async with db.read() as session:
        rows = (await session.exec(query)).all()
    if not rows:
        return
    try:
        # What is mined has left the float, and is not paid by the books yet.
        owed = sum([one.usdc for one in rows if not await _has_moved(rail, one)])
        funds = await check_funds(rail)
    except (RpcUnavailable, RpcErrorAnswer, TokenUnreadable) as error:
        exam.warn("paybacks", f"not looked at: {error.detail}", "Mend the nodes first.")
        return
    if owed and funds is None:
        said = f"the float was told to pay {format_usdc(owed)}, and has no key here"
        step = "Set PAYBACK_KEY where the workers are; this is well on a server alone."
        exam.warn("paybacks", said, step)
    elif funds is not None and owed > funds.usdc:
        has, short = format_usdc(funds.usdc), format_usdc(owed - funds.usdc)
        said = f"the float was told to pay {format_usdc(owed)} and has {has}"
        exam.problem("paybacks", said, f"Send at least {short} to it.")


async def _has_moved(rail: Rail, one: Payback) -> bool:
    assert one.from_address is not None, "it was issued"
    return await nonce_used(rail.chain, bytes(one.from_address), bytes(one.nonce))


async def examine_merchants(exam: Examination, db: Database, rail: Rail) -> None:
    """Whether what other sellers have settled here comes to an end, and what it costs."""
    exam.looking("merchants")
    async with db.read() as session:
        found = await merchant_health(session, rail, now_ms(session))
    if not (rail.serves_merchants or found.merchants or found.open):
        return
    _tell_settlements(exam, found)
    _tell_gas(exam, rail, found)
    if rail.serves_merchants and not found.merchants:
        step = "Name one with `tallystick merchant add`, or unset ACT_AS_FACILITATOR."
        exam.warn("merchants", "nobody may have payments settled here", step)
    if not exam.count_of("merchants"):
        pending = sum(one.count for one in found.open)
        said = f"{found.merchants} with a key, {pending} settlements not final yet"
        exam.ok("merchants", said)


def _tell_settlements(exam: Examination, found: MerchantHealth) -> None:
    for one in found.open:
        if one.stuck:
            said = f"{one.stuck} settlements are {one.state} long after their window"
            step = "See `merchant_look_failed` and `merchant_look_broke` in the log."
            exam.warn("merchants", said, step)
    if found.quarantined:
        said = f"{found.quarantined} settlements are in quarantine"
        step = "The nodes contradict each other: ask another one, tell the merchant."
        exam.warn("merchants", said, step)


def _tell_gas(exam: Examination, rail: Rail, found: MerchantHealth) -> None:
    budget = rail.gas.per_merchant
    for one in found.today:
        # By what is spent, as settlements are refused; what is reserved comes back.
        if one.spent * 10 >= budget * 9:
            named = encode_id("mer", one.merchant_id)
            said = f"{named} spent {ether(one.spent)} of {ether(budget)} ether today"
            step = "Raise GAS_PER_MERCHANT if that is well, or wait for midnight UTC."
            exam.warn("merchants", said, step)
    keys = sum(not one.deploys for one in rail.relayers)
    if keys and found.merchants * budget >= keys * rail.gas.per_day:
        said = "the merchants' gas budgets together are as much as the relayers'"
        step = "Raise GAS_PER_DAY, or your own customers may wait for midnight UTC."
        exam.warn("merchants", said, step)

"""One look at one top-up: ask the chain, decide, act.

Every write is conditional on the state that was looked at, so several workers may do
this at once and a crash between any two lines costs nothing but time.
"""

from sqlalchemy import update
from sqlmodel import col

from tallystick.chain.errors import GasAboveCap
from tallystick.chain.evidence import TransferLog
from tallystick.kernel.crash_points import CrashPoint, reached
from tallystick.kernel.db import Database, WriteSession
from tallystick.kernel.ids import encode_id
from tallystick.kernel.log import get_logger
from tallystick.payments.facilitated import ask, facilitator_settles, may_credit
from tallystick.payments.gas.budget import NoBudget, PayerSpent, is_hopeless
from tallystick.payments.lanes import leave_lane, promote_queued
from tallystick.payments.looking import look_at
from tallystick.payments.machine import EDGES, Act, Decision, decide
from tallystick.payments.models.topups import PENDING_STATES, TopUp, TopUpState
from tallystick.payments.observing.crediting import credit, place_of
from tallystick.payments.observing.retelling import needs_witness
from tallystick.payments.rail import Rail
from tallystick.payments.relaying.sending import send_again
from tallystick.payments.relaying.signing import sign_and_send
from tallystick.payments.topups import read_topup
from tallystick.payments.witness import hear

_log = get_logger(__name__)
PAYERS_BUDGET = "gas_budget_of_payer"
"""Why a payment is refused: too much gas came to nothing for its payer today."""


async def step(db: Database, rail: Rail, topup_id: int, *, hold_seconds: int) -> bool:
    """Bring the top-up as far as the chain allows now; whether another look may help.

    Raises ``RpcUnavailable`` when the chain cannot be asked; its state is unchanged.
    """
    async with db.read() as session:
        topup = await read_topup(session, topup_id)
    if topup.state not in PENDING_STATES:
        return False
    look, settled = await look_at(db, rail, topup)
    decision = decide(TopUpState(topup.state), topup.valid_before, look)
    if decision.act == Act.CREDIT:
        assert settled is not None
        if await may_credit(db, rail, topup, settled):
            await credit_topup(db, rail, topup, settled, hold_seconds=hold_seconds)
        return False
    if decision.act == Act.MOVE:
        return await _move(db, rail, topup, decision)
    if topup.in_flight and not decision.keeps_lane:
        await db.write(lambda session: leave_lane(session, topup))
        rail.work.notify()
    if decision.act == Act.SIGN:
        await _sign_and_send(db, rail, topup)
    elif decision.act == Act.RESEND:
        await send_again(db, rail, topup)
    return False


async def credit_topup(
    db: Database, rail: Rail, topup: TopUp, settled: TransferLog, *, hold_seconds: int
) -> None:
    """Grant the credits for a settlement that a canonical block shows."""
    place = place_of(rail)
    must = await needs_witness(db, rail, topup, settled)
    heard = await hear(rail, settled, must=must)

    async def work(session: WriteSession) -> bool:
        done = await credit(session, place, topup, heard, hold_seconds=hold_seconds)
        if done:
            await promote_queued(session, topup.chain_id, topup.payer)
        return done

    before = topup.state
    if await db.write(work):
        reached(CrashPoint.CREDITED)
        rail.outlook.transitions[before, TopUpState.CREDITED] += 1
        _log.info("topup_credited", topup=encode_id("top", topup.id))
    rail.changes.notify(topup.id, topup.customer_id)
    rail.work.notify()


async def _sign_and_send(db: Database, rail: Rail, topup: TopUp) -> None:
    reached(CrashPoint.REHEARSED)
    if await facilitator_settles(db, rail, topup):
        await ask(db, rail, topup)
        return
    try:
        await sign_and_send(db, rail, topup)
    except GasAboveCap:
        await _refuse(db, rail, topup, "gas_above_cap")
    except NoBudget as refused:
        await _without_budget(db, rail, topup, refused)


async def _refuse(db: Database, rail: Rail, topup: TopUp, reason: str) -> None:
    """Only what was never signed; the chain alone ends the others."""
    if topup.state == TopUpState.CLAIMED:
        await _move(db, rail, topup, Decision(Act.MOVE, TopUpState.REJECTED, reason))


async def _without_budget(
    db: Database, rail: Rail, topup: TopUp, refused: NoBudget
) -> None:
    """It waits, for tomorrow or for cheaper gas, until its window closes.

    Unless its payer has used up what may come to nothing of his.
    """
    if isinstance(refused, PayerSpent):
        async with db.read() as session:
            is_over = await is_hopeless(session, rail, topup.payer, refused.wei)
        if is_over:
            await _refuse(db, rail, topup, PAYERS_BUDGET)
            return
    await _let_wait(db, topup, "waits_for_gas")


async def _let_wait(db: Database, topup: TopUp, reason: str) -> None:
    """Tell why nothing is signed, unless that is told."""
    if topup.state != TopUpState.CLAIMED or topup.reason == reason:
        return

    async def work(session: WriteSession) -> None:
        await session.exec(
            update(TopUp)
            .where(col(TopUp.id) == topup.id, col(TopUp.state) == TopUpState.CLAIMED)
            .values(reason=reason)
        )

    await db.write(work)


async def _move(db: Database, rail: Rail, topup: TopUp, decision: Decision) -> bool:
    after = decision.state
    assert after is not None
    before = TopUpState(topup.state)
    assert after in EDGES[before], f"{before} never becomes {after}"

    # Its payer may have redeemed meanwhile what would put it in quarantine.
    is_judged = after == TopUpState.QUARANTINE
    same = col(TopUp.reason).is_not_distinct_from(topup.reason)
    unchanged = (same,) if is_judged else ()

    async def work(session: WriteSession) -> bool:
        statement = (
            update(TopUp)
            .where(col(TopUp.id) == topup.id, col(TopUp.state) == before, *unchanged)
            .values(
                state=after,
                reason=decision.reason,
                in_flight=decision.keeps_lane and topup.in_flight,
            )
        )
        if (await session.exec(statement)).rowcount != 1:
            return False
        await promote_queued(session, topup.chain_id, topup.payer)
        reached(CrashPoint.MOVE_UNCOMMITTED)
        return True

    moved = await db.write(work)
    if moved:
        rail.outlook.transitions[before, after] += 1
        _log.info(
            "topup_moved",
            topup=encode_id("top", topup.id),
            before=before,
            after=after,
            reason=decision.reason,
        )
    rail.changes.notify(topup.id, topup.customer_id)
    rail.work.notify()
    return moved

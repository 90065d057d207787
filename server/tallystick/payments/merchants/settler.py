"""One look at one settlement for another seller: ask the chain, decide, act.

The decisions are those for our own top-ups (``machine``); only where those are credited,
this one is noted as settled, and nothing is booked.
"""

from typing import Any

from sqlalchemy import update
from sqlmodel import col

from tallystick.chain.errors import GasAboveCap
from tallystick.chain.evidence import Settled, TransferLog, find_settlements
from tallystick.chain.rpc import Block, Chain
from tallystick.kernel.crash_points import CrashPoint, reached
from tallystick.kernel.db import Database, WriteSession, now_ms
from tallystick.kernel.ids import encode_id
from tallystick.kernel.log import get_logger
from tallystick.payments.gas.budget import (
    MerchantSpent,
    NoBudget,
    PayerSpent,
    is_hopeless,
    is_merchant_over,
)
from tallystick.payments.looking import look_at
from tallystick.payments.machine import Act, decide
from tallystick.payments.merchants.claims import read_settlement
from tallystick.payments.models.merchants import (
    PENDING_SETTLEMENTS,
    MerchantSettlement,
    SettlementState,
)
from tallystick.payments.models.topups import TopUpState
from tallystick.payments.rail import Rail
from tallystick.payments.relaying.sending import send_again
from tallystick.payments.relaying.signing import sign_and_send

_log = get_logger(__name__)
_FOLLOW_MS = 30_000
MERCHANTS_BUDGET = "gas_budget_of_merchant"
PAYERS_BUDGET = "gas_budget_of_payer"


async def step_for_merchant(db: Database, rail: Rail, settlement_id: int) -> bool:
    """Bring the settlement as far as the chain allows now; whether to look once more.

    Raises ``RpcUnavailable`` when the chain cannot be asked; its state is unchanged.
    """
    async with db.read() as session:
        one = await read_settlement(session, settlement_id)
    if one.state == SettlementState.SETTLED:
        await _follow(db, rail, one)
        return False
    if one.state not in PENDING_SETTLEMENTS:
        return False
    look, settled = await look_at(db, rail, one)
    decision = decide(TopUpState(one.state), one.valid_before, look)
    if decision.act == Act.CREDIT:
        assert settled is not None
        await _note_settled(db, rail, one, settled)
        return False
    if decision.act == Act.MOVE:
        assert decision.state is not None
        state = SettlementState(decision.state.value)
        return await _move(db, rail, one, state, reason=decision.reason)
    if decision.act == Act.SIGN:
        await _sign(db, rail, one)
    elif decision.act == Act.RESEND:
        await send_again(db, rail, one)
    return False


async def _note_settled(
    db: Database, rail: Rail, one: MerchantSettlement, settled: TransferLog
) -> None:
    state = SettlementState.SETTLED
    await _move(db, rail, one, state, reason=None, **_anchor(settled))


def _anchor(settled: TransferLog) -> dict[str, Any]:
    return {
        "tx_hash": settled.tx_hash,
        "block_number": settled.block_number,
        "block_hash": settled.block_hash,
    }


async def _follow(db: Database, rail: Rail, one: MerchantSettlement) -> None:
    """Once its block is final, look whether it is still there; else settle it anew.

    Until then its transaction is pushed like every other whose block was replaced.
    """
    final, found = await rail.chain.of_one_node(lambda node: _where_now(node, one))
    if final is None:
        return
    ours = [seen for seen in found if seen.pay_to == one.pay_to]
    if not ours:
        await _move(db, rail, one, SettlementState.WATCH, reason="block_replaced")
    elif ours[0].block_number <= final.number:
        state = SettlementState.FINAL
        await _move(db, rail, one, state, reason=None, **_anchor(ours[0]))


async def _where_now(
    node: Chain, one: MerchantSettlement
) -> tuple[Block | None, list[Settled]]:
    """The final block, and what of it is there by then; None while its block is not."""
    final = await node.block("finalized")
    assert one.block_number is not None
    if final is None or final.number < one.block_number:
        return None, []
    return final, await find_settlements(
        node, one.payer, one.nonce, one.scan_from_block, at_least=final.number
    )


async def _sign(db: Database, rail: Rail, one: MerchantSettlement) -> None:
    reached(CrashPoint.MERCHANT_REHEARSED)
    try:
        await sign_and_send(db, rail, one)
    except GasAboveCap:
        await _refuse(db, rail, one, "gas_above_cap")
    except NoBudget as refused:
        reason = await _used_up(db, rail, one, refused)
        if reason is not None:
            await _refuse(db, rail, one, reason)


async def _used_up(
    db: Database, rail: Rail, one: MerchantSettlement, refused: NoBudget
) -> str | None:
    """Whose budget is used up for today; None while it may only be reserved.

    Then it waits until its window closes.
    """
    async with db.read() as session:
        if isinstance(refused, PayerSpent):
            is_over = await is_hopeless(session, rail, one.payer, refused.wei)
            return PAYERS_BUDGET if is_over else None
        if isinstance(refused, MerchantSpent):
            merchant = one.merchant_id
            is_over = await is_merchant_over(session, rail, merchant, refused.wei)
            return MERCHANTS_BUDGET if is_over else None
    return None


async def _refuse(
    db: Database, rail: Rail, one: MerchantSettlement, reason: str
) -> None:
    """Only what was never signed; the chain alone ends the others."""
    if one.state == SettlementState.CLAIMED:
        await _move(db, rail, one, SettlementState.REJECTED, reason=reason)


async def _move(
    db: Database,
    rail: Rail,
    one: MerchantSettlement,
    state: SettlementState,
    *,
    reason: str | None,
    **anchor: Any,
) -> bool:
    """Change its state, if it is still as it was looked at; whether it was."""
    is_settled = state == SettlementState.SETTLED

    async def work(session: WriteSession) -> bool:
        looks_ms = _FOLLOW_MS if is_settled else 0
        statement = (
            update(MerchantSettlement)
            .where(
                col(MerchantSettlement.id) == one.id,
                col(MerchantSettlement.state) == one.state,
            )
            .values(
                state=state,
                reason=reason,
                next_look_at_ms=now_ms(session) + looks_ms,
                **anchor,
            )
        )
        moved = (await session.exec(statement)).rowcount == 1
        reached(CrashPoint.MERCHANT_MOVE_UNCOMMITTED)
        return moved

    moved = await db.write(work)
    if moved:
        named = encode_id("stl", one.id)
        merchant = encode_id("mer", one.merchant_id)
        _log.info(
            "merchant_settlement_moved",
            settlement=named,
            merchant=merchant,
            before=one.state,
            after=state,
            reason=reason,
        )
    rail.changes.notify(one.id)
    return moved

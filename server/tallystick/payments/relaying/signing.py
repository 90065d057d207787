"""From a rehearsal that said yes to bytes at a node, by whichever key is free."""

from tallystick.chain.errors import RpcErrorAnswer
from tallystick.chain.relay import Outcome
from tallystick.kernel.crash_points import CrashPoint, reached
from tallystick.kernel.db import Database
from tallystick.kernel.ids import encode_id
from tallystick.kernel.log import get_logger
from tallystick.payments.gas.budget import DaySpent
from tallystick.payments.gas.solvency import pause_for_today
from tallystick.payments.models.topups import Payment, TopUp, TopUpState
from tallystick.payments.rail import Rail, Relayer
from tallystick.payments.relaying.pushing import catch_up, make_room
from tallystick.payments.relaying.relayer import relayer_for, sign
from tallystick.payments.relaying.replacing import OpenNonce, raise_fees
from tallystick.payments.relaying.sending import deliver, was_let_down
from tallystick.payments.rules.gas import day_at

_log = get_logger(__name__)


async def sign_and_send(db: Database, rail: Rail, payment: Payment) -> None:
    """Sign the settlement with a key of ours and hand it to a node.

    Not when another process has the keys, they are full or without gas money, or a
    contract has let down an earlier settlement.
    Raises ``GasAboveCap`` or ``NoBudget`` when nothing was signed for that reason, and
    ``RpcUnavailable``.
    """
    if await was_let_down(db, rail, payment):
        return
    relayer = relayer_for(rail, payment)
    if relayer is None:
        await make_room(rail)
        relayer = relayer_for(rail, payment)
    if relayer is None:
        return
    sequence = rail.sequence(relayer)
    with sequence.reserved():
        async with sequence.lock:
            if await catch_up(db, rail, relayer):
                await _sign_next(db, rail, relayer, payment)


async def _sign_next(
    db: Database, rail: Rail, relayer: Relayer, payment: Payment
) -> None:
    try:
        stored = await sign(db, rail, relayer, payment)
    except RpcErrorAnswer as error:
        # It stopped being possible since the rehearsal; the next look tells.
        prefix = "top" if isinstance(payment, TopUp) else "stl"
        named = encode_id(prefix, payment.id)
        _log.warning("not_signed", payment=named, code=error.code)
        return
    except DaySpent as refused:
        day = day_at(db.clock.now_ms())
        pause_for_today(rail, relayer.address, day, needs_wei=str(refused.wei))
        raise
    if stored is None:
        return
    if isinstance(payment, TopUp):
        rail.outlook.transitions[payment.state, TopUpState.SIGNED] += 1
    reached(CrashPoint.SIGNED)
    outcome = await deliver(rail, stored)
    reached(CrashPoint.SENT)
    if outcome == Outcome.UNDERPRICED:
        await raise_fees(db, rail, OpenNonce(relayer, (stored,), payment))

"""After the handler: capture what was served, release what failed.

Capture is durable before the first byte of the answer leaves, and the
answer is kept in the same transaction, with its receipt.
"""

from collections.abc import Callable
from http import HTTPStatus

from tallystick.credits import holds
from tallystick.credits.errors import HoldAlreadySettled
from tallystick.credits.models import HoldState
from tallystick.kernel.db import WriteSession
from tallystick.kernel.money import MicroCredits
from tallystick.ledger.balances import customer_balance
from tallystick.metering.charges import Charge, Usage, capture, captured
from tallystick.paywall import answers
from tallystick.paywall.answer import Answer
from tallystick.paywall.gate import Gate
from tallystick.paywall.receipt import receipt_headers, stamped
from tallystick.paywall.verdicts import Serve

_FREE = Charge(0, MicroCredits(0), MicroCredits(0))


def is_answered(http_status: int) -> bool:
    """The success rule ``answered`` of a catalog: below 400 is charged, the rest free.

    Every door decides by it: a handler of ours, ``paid`` in a seller's app, and an
    answer that a server in another language tells about.
    """
    return http_status < HTTPStatus.BAD_REQUEST


async def finish_served(
    gate: Gate,
    serve: Serve,
    answer: Answer | Callable[[Charge], Answer] | None,
    *,
    amount: MicroCredits | None = None,
) -> Charge:
    """Charge for an answer that is about to leave; ``amount`` is the whole price.

    ``answer`` may be made from the charge that it tells about; None means that it
    cannot be kept (a stream, or too large). Raises ``HoldAlreadySettled`` when the
    hold has lapsed: then the answer must not leave.
    """
    if serve.hold_id is None or serve.usage is None:
        return _FREE
    hold_id, usage = serve.hold_id, serve.usage
    taken = serve.price if amount is None else amount

    async def work(session: WriteSession) -> Charge:
        charged = await capture(session, hold_id, usage, taken)
        kept = answer(charged) if callable(answer) else answer
        kept = kept and stamped(kept, receipt_headers(serve, charged))
        for key in serve.answer_keys:
            await answers.keep(session, key, kept)
        return charged

    charged = await gate.db.write(work)
    # A copy of the call may wait for its answer, and another call for what is left over.
    gate.rail.changes.notify(usage.customer_id)
    return charged


async def finish_failed(gate: Gate, serve: Serve) -> Charge:
    """Give the credits back: the call failed, and nothing is charged.

    Raises ``HoldAlreadySettled`` when it was charged all the same.
    """
    if serve.hold_id is None or serve.usage is None:
        return _FREE
    hold_id, usage = serve.hold_id, serve.usage

    async def work(session: WriteSession) -> Charge:
        try:
            await holds.release(session, hold_id)
        except HoldAlreadySettled as settled:
            # If it lapsed or was released, the credits are free already. If it was
            # captured and only the database's word was lost, the call is charged and
            # must not run again.
            if settled.members["state"] == HoldState.CAPTURED:
                raise
        for key in serve.answer_keys:
            await answers.forget(session, key)
        return await _nothing(session, usage)

    charged = await gate.db.write(work)
    gate.rail.changes.notify(usage.customer_id)
    return charged


async def finish_again(
    gate: Gate, serve: Serve, *, amount: MicroCredits | None
) -> Charge:
    """What ``finish_served`` told the first time, to a server that asks once more.

    Raises ``HoldAlreadySettled`` when another amount was charged then, and
    ``UnknownHold``.
    """
    if serve.hold_id is None or serve.usage is None:
        return _FREE
    async with gate.db.read() as session:
        charged = await captured(session, serve.hold_id)
    if charged.deducted != (serve.price if amount is None else amount):
        raise HoldAlreadySettled(serve.hold_id, HoldState.CAPTURED)
    return charged


async def _nothing(session: WriteSession, usage: Usage) -> Charge:
    funds = await customer_balance(session, usage.customer_id)
    return Charge(0, MicroCredits(0), funds.posted)


async def heartbeat(gate: Gate, serve: Serve) -> None:
    """Keep the hold of a slow handler alive; raises ``HoldAlreadySettled``."""
    if serve.hold_id is None:
        return
    hold_id, seconds = serve.hold_id, gate.hold_seconds

    async def work(session: WriteSession) -> None:
        await holds.extend(session, hold_id, lifetime_seconds=seconds)
        for key in serve.answer_keys:
            await answers.extend(session, key, lease_seconds=seconds)

    await gate.db.write(work)

"""A deduction, once under its key, together with others or alone."""

from functools import partial

from tallystick.kernel.db import WriteSession
from tallystick.metering.charges import charge
from tallystick.paywall.answer import Answer, charge_answer
from tallystick.paywall.answers import keep, keep_charge
from tallystick.paywall.gate import Gate
from tallystick.paywall.once import begin_once
from tallystick.paywall.plain import Deducted, Deduction


async def deduct(gate: Gate, wanted: Deduction) -> Deducted:
    """Charge, and keep the answer if there is a key.

    Raises ``InsufficientCredits``, ``LimitReached``, ``TooManyWaiting`` and as
    ``once.begin_once`` does; then nothing is charged.
    """
    alone = partial(deduct_alone, wanted, gate.hold_seconds)
    if wanted.usage.price == 0 or wanted.usage.limits:
        return await gate.db.write(alone)
    done = await gate.writes.do(wanted, lambda: gate.db.write(alone))
    assert isinstance(done, Deducted), "a deduction is no admission"
    return done


async def deduct_alone(
    wanted: Deduction, lease_seconds: int, session: WriteSession
) -> Deducted:
    """The long way, which knows every case; raises as ``deduct`` does."""
    begun = wanted.key and await begin_once(
        session, wanted.key, lease_seconds=lease_seconds
    )
    if isinstance(begun, Answer):
        return Deducted(begun, replayed=True)
    charged = await charge(session, wanted.usage, idempotency_key=None)
    answer = charge_answer(charged)
    if begun is not None and charged.id:
        await keep_charge(session, begun, charged.id)
    elif begun is not None:  # it cost nothing, so the books know nothing of it
        await keep(session, begun, answer)
    return Deducted(answer)

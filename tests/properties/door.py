"""The door that nearly every charge and hold comes through, with many at it at once."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any, cast

from tests.properties.groups import Told, Want

from tallystick.credits.errors import LimitReached
from tallystick.credits.limits import LimitTake
from tallystick.kernel.db import Database, query
from tallystick.kernel.errors import TallystickError
from tallystick.kernel.ids import decode_id
from tallystick.kernel.money import MicroCredits
from tallystick.ledger.errors import IdempotencyMismatch, InsufficientCredits
from tallystick.ledger.lots import unpack
from tallystick.metering.charges import Usage
from tallystick.paywall.admit import admit_alone
from tallystick.paywall.answers import RequestInProgress, idempotency_answer
from tallystick.paywall.deduct import deduct
from tallystick.paywall.gate import Gate
from tallystick.paywall.plain import Admission, Admitted, Deducted, Deduction, Done

_DAY_MS = 24 * 3600 * 1000
_REFUSED_AS: dict[type[TallystickError], str] = {
    InsufficientCredits: "grouped_short",
    IdempotencyMismatch: "grouped_mismatches",
    RequestInProgress: "still_running",
    LimitReached: "limits_reached",
}
_DRAWN = """
    SELECT ledger_transaction.id, lot_id, lots, amount FROM transfer
      JOIN ledger_transaction ON ledger_transaction.id = ledger_transaction_id
     WHERE ledger_transaction_id >= :first AND kind = 'charge'
    UNION ALL
    SELECT id, lot_id, lots, amount FROM hold WHERE id >= :first"""
_PLAIN = """
    SELECT COUNT(*) AS plain FROM ledger_transaction
     WHERE id >= :first AND idempotency_key IS NULL"""


class Door:
    """One process's; ``limits`` are the customers' limits by their ids."""

    def __init__(self, db: Database, limits: dict[int, int]) -> None:
        # A customer who is known brings no payment, so nobody asks for a chain.
        absent = cast(Any, None)
        self._gate = Gate(db, absent, absent, absent, absent, "http://shop.test")
        self._limits = limits

    async def enter_all(self, wants: Sequence[Want]) -> tuple[list[Told], int]:
        """All at once; what each was told, and how many charges a group wrote."""
        first = self._gate.db.ids.new()
        told = await asyncio.gather(*[self._enter(one) for one in wants])
        async with self._gate.db.read() as session:
            rows = await query(session, _DRAWN, first=first)
            (counted,) = await query(session, _PLAIN, first=first)
        draws = {
            row["id"]: tuple(
                (lot, abs(amount))
                for lot, amount in unpack(row["lot_id"], row["lots"], row["amount"])
            )
            for row in rows
        }
        full = [replace(one, draws=draws.pop(one.id, ())) for one in told]
        assert not draws, "somebody was charged for whom nothing was said"
        return full, counted["plain"]

    async def _enter(self, want: Want) -> Told:
        try:
            return _told(await self._do(want))
        except TallystickError as refusal:
            if type(refusal) not in _REFUSED_AS:
                raise
            return Told(_REFUSED_AS[type(refusal)])

    async def _do(self, want: Want) -> Done:
        db, usage = self._gate.db, self._usage(want)
        until = db.clock.now_ms() + _DAY_MS
        asked = want.key and (want.customer, want.key, want.request * 16, until)
        key = idempotency_answer(*asked) if asked else None
        if not want.is_hold:
            return await deduct(self._gate, Deduction(usage, key))
        one = Admission(usage, key, want.seconds)
        alone = partial(db.write, partial(admit_alone, one))
        return await (alone() if usage.limits else self._gate.writes.do(one, alone))

    def _usage(self, want: Want) -> Usage:
        feature = "ai_analyst" if want.is_hold else "x"
        price, limits = MicroCredits(want.amount), ()
        usage = Usage(want.customer, feature, 1_000_000, price, "v1", limits)
        if not want.is_limited:
            return usage
        take = LimitTake(self._limits[want.customer], want.amount, in_credits=True)
        return replace(usage, limits=(take,))


def _told(done: Done) -> Told:
    if isinstance(done, Admitted):
        return Told("grouped_holds", done.hold_id)
    if not isinstance(done, Deducted):
        return Told("grouped_replays", answer=done.body)
    if done.replayed:
        return Told("grouped_replays", answer=done.answer.body)
    said = json.loads(done.answer.body, parse_float=Decimal)
    charge_id = decode_id("chg", said["charge"])
    balance = int(Decimal(said["credits"]) * 1_000_000)
    return Told("grouped_charges", charge_id, done.answer.body, balance)

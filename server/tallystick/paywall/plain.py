"""Deductions and admissions of the plain kind, many of them in one write.

A deduction is charged at once and its answer is kept; an admission has its price set
aside, and its answer follows when it was served.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tallystick.credits.plain_holds import HOLDS, hold_row
from tallystick.kernel.db import Database
from tallystick.kernel.group_commit import GroupCommit
from tallystick.kernel.money import MicroCredits
from tallystick.ledger.plain import Beside, Plain, PlainHold, write_plain
from tallystick.ledger.plain_rows import Row
from tallystick.metering.charges import Charge, Usage
from tallystick.metering.plain import EVENTS, event_row, plain_charge
from tallystick.paywall.answer import Answer, charge_answer
from tallystick.paywall.answers import ANSWERS, AnswerKey, charged_row, running_row


@dataclass(frozen=True, slots=True)
class Deduction:
    """What to charge; ``key`` is where the answer is kept, without one it is not."""

    usage: Usage
    key: AnswerKey | None


@dataclass(frozen=True, slots=True)
class Deducted:
    """The answer, and whether it was given before."""

    answer: Answer
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Admission:
    """What to set aside, for at most so long; ``key`` is where the answer will be."""

    usage: Usage
    key: AnswerKey | None
    lifetime_seconds: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """What was set aside, and the key that is owned while the call is served."""

    hold_id: int
    key: AnswerKey | None


Wanted = Deduction | Admission
Done = Deducted | Admitted | Answer
"""An ``Answer`` is one that was given to the same request before."""
PlainWrites = GroupCommit[Wanted, Done]


def plain_writes(db: Database) -> PlainWrites:
    """What queues while another is written is written together."""

    async def together(group: Sequence[Wanted]) -> Sequence[Done | None]:
        lines = [_line(db, one) for one in group]
        beside = [
            Beside(table, [line.rows[at] for line in lines])
            for at, table in enumerate((EVENTS, HOLDS, ANSWERS))
        ]
        left = await write_plain(db, [line.item for line in lines], beside)
        return [
            None if after is None else _told(line, after)
            for line, after in zip(lines, left, strict=True)
        ]

    return GroupCommit(together, whose=lambda one: one.usage.customer_id)


@dataclass(frozen=True, slots=True)
class _Line:
    """What is written of one: itself, and an event or a hold and an answer beside."""

    wanted: Wanted
    item: Plain
    rows: tuple[Row | None, Row | None, Row | None]
    key: AnswerKey | None


def _line(db: Database, one: Wanted) -> _Line:
    now, usage, key = db.clock.now_ms(), one.usage, one.key
    assert not usage.limits, "what limits bind goes alone"
    if isinstance(one, Deduction):
        charge = plain_charge(db, usage)
        answer = charged_row(key, charge.id) if key else None
        return _Line(
            one, charge, (event_row(charge, usage, now=now), None, answer), key
        )
    hold = PlainHold(db.ids.new(), usage.customer_id, usage.price)
    row = hold_row(hold, usage.feature, now=now, lifetime_seconds=one.lifetime_seconds)
    own = replace(key, owner=db.ids.new()) if key else None
    running = running_row(own, now, one.lifetime_seconds) if own else None
    return _Line(one, hold, (None, row, running), own)


def _told(line: _Line, balance_after: int) -> Done:
    if isinstance(line.wanted, Admission):
        return Admitted(line.item.id, line.key)
    price = line.wanted.usage.price
    charged = Charge(line.item.id, price, MicroCredits(balance_after))
    return Deducted(charge_answer(charged))

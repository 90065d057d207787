"""Deductions: charges whose answers are kept, many of them in one write."""

from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.kernel.db import Database
from tallystick.kernel.group_commit import GroupCommit
from tallystick.metering.charges import Charge, Usage
from tallystick.metering.plain import charge_plain, plain_charge
from tallystick.paywall.answer import Answer, charge_answer
from tallystick.paywall.answers import AnswerKey, beside_charges


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


Deductions = GroupCommit[Deduction, Deducted]


def deductions_of(db: Database) -> Deductions:
    """What queues while another is written is written together."""

    async def together(group: Sequence[Deduction]) -> Sequence[Deducted | None]:
        charges = [plain_charge(db, one.usage) for one in group]
        ids = [one.transaction_id for one in charges]
        answers = beside_charges([one.key for one in group], ids)
        usages = [one.usage for one in group]
        return list(map(_told, await charge_plain(db, usages, charges, [answers])))

    return GroupCommit(together)


def _told(charged: Charge | None) -> Deducted | None:
    return None if charged is None else Deducted(charge_answer(charged))

"""Deductions: charges whose answers are kept, many of them in one transaction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tallystick.kernel.db import Database, WriteSession
from tallystick.kernel.group_commit import GroupCommit
from tallystick.metering.charges import Charge, Usage, charge_plain
from tallystick.paywall.answers import Answer, AnswerKey, keep_new, known


@dataclass(frozen=True, slots=True)
class Deduction:
    """What to charge, and how the answer to it reads.

    ``key`` is where that answer is kept; without one it is not.
    """

    usage: Usage
    key: AnswerKey | None
    answer: Callable[[Charge], Answer]


@dataclass(frozen=True, slots=True)
class Deducted:
    """The answer, and whether it was given before."""

    answer: Answer
    replayed: bool = False


Deductions = GroupCommit[Deduction, Deducted]


def deductions_of(db: Database) -> Deductions:
    """What queues while another is written is written together."""

    async def together(batch: Sequence[Deduction]) -> Sequence[Deducted | None]:
        return await db.write(partial(_deduct_together, batch))

    return GroupCommit(together)


async def _deduct_together(
    batch: Sequence[Deduction], session: WriteSession
) -> Sequence[Deducted | None]:
    """Charge those whose keys are new; the first of each key, and none for the rest."""
    fresh = await _fresh(session, batch)
    charged = await charge_plain(session, [batch[index].usage for index in fresh])
    outcomes: list[Deducted | None] = [None] * len(batch)
    given = []
    for index, one in zip(fresh, charged, strict=True):
        if one is None:
            continue
        answer = batch[index].answer(one)
        outcomes[index] = Deducted(answer)
        if (key := batch[index].key) is not None:
            given.append((key, answer))
    await keep_new(session, given)
    return outcomes


async def _fresh(session: WriteSession, batch: Sequence[Deduction]) -> list[int]:
    keys = [one.key for one in batch if one.key is not None]
    seen = await known(session, keys) if keys else set()
    fresh = []
    for index, one in enumerate(batch):
        if one.key is None or one.key.key not in seen:
            fresh.append(index)
        if one.key is not None:
            seen.add(one.key.key)
    return fresh

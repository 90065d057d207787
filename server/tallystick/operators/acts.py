"""Acts of operators: each is noted in the transaction that does it.

So neither is there without the other.
"""

from dataclasses import dataclass

from sqlmodel import col, select

from tallystick.kernel.db import ReadSession, WriteSession, new_id, now_ms
from tallystick.operators.errors import UnusableWords
from tallystick.operators.models import OperatorAct

_LONGEST_NAME = 64
_LONGEST_REASON = 500


def operator_named(text: str) -> str:
    """The operator's name, which is the same in capitals. Raises ``UnusableWords``."""
    return _words(text, _LONGEST_NAME, "an operator's name").lower()


def reason_told(text: str) -> str:
    """The reason as it is kept. Raises ``UnusableWords``."""
    return _words(text, _LONGEST_REASON, "a reason")


def _words(text: str, longest: int, what: str) -> str:
    found = text.strip()
    if not found or len(found) > longest or not found.isprintable():
        raise UnusableWords(f"{what} is one line of 1 to {longest} characters")
    return found


@dataclass(frozen=True, slots=True)
class Signed:
    """Whose act it is, and why he does it, if he has to say so.

    Raises ``UnusableWords``.
    """

    operator: str
    reason: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "operator", operator_named(self.operator))
        if self.reason is not None:
            object.__setattr__(self, "reason", reason_told(self.reason))


async def note_act(
    session: WriteSession, signed: Signed, act: str, subject: str
) -> None:
    """Note the act; ``subject`` is an id as callers see it."""
    session.add(
        OperatorAct(
            id=new_id(session),
            operator=signed.operator,
            act=act,
            subject=subject,
            reason=signed.reason,
            at_ms=now_ms(session),
        )
    )
    await session.flush()


async def acts_on(
    session: ReadSession, subject: str | None = None
) -> list[OperatorAct]:
    """What operators did, oldest first; to one subject, if it is named."""
    query = select(OperatorAct).order_by(col(OperatorAct.id))
    if subject is not None:
        query = query.where(col(OperatorAct.subject) == subject)
    return list((await session.exec(query)).all())

"""Operators: who of the seller did something by hand, to what, and why.

Each act is noted in the transaction that does it, so neither is there without the other.
"""

from dataclasses import dataclass

from sqlmodel import col, select

from tallystick.identity.models import OperatorAct
from tallystick.kernel.db import ReadSession, WriteSession, new_id, now_ms
from tallystick.kernel.errors import BadInput

_LONGEST_NAME = 80
_LONGEST_REASON = 500


class UnsignedAct(BadInput):
    """An act of an operator without his name or his reason."""

    is_for_operators = True
    title = "Who does this, and why?"
    next_step = (
        f"Give the operator's name, one line of at most {_LONGEST_NAME} characters, and"
        f" a reason of at most {_LONGEST_REASON}."
    )


@dataclass(frozen=True, slots=True)
class Signed:
    """Whose act it is, and why he does it. Raises ``UnsignedAct``."""

    operator: str
    reason: str

    def __post_init__(self) -> None:
        _require_line("operator", self.operator, _LONGEST_NAME)
        _require_line("reason", self.reason, _LONGEST_REASON)


def _require_line(name: str, line: str, longest: int) -> None:
    if not line.strip() or not line.isprintable() or len(line) > longest:
        raise UnsignedAct(f"the {name} is empty, too long or not one printable line")


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

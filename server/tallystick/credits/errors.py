"""What holds, grants and limits refuse, each with the reason by name."""

from tallystick.credits.models import HoldState
from tallystick.kernel.clock import rfc3339
from tallystick.kernel.errors import Conflict, NotFound, TallystickError
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import format_credits


class UnknownHold(NotFound):
    """There is no such hold."""

    next_step = "Send the hold's identifier as it was answered when it was placed."

    def __init__(self, hold_id: int) -> None:
        super().__init__(f"{encode_id('hld', hold_id)} names no hold")


class HoldAlreadySettled(Conflict):
    """A hold is captured, released or expired once; ``state`` says which it was."""

    next_step = "Place a new hold for a new call."

    def __init__(self, hold_id: int, state: HoldState) -> None:
        super().__init__(f"{encode_id('hld', hold_id)} is {state} already", state=state)


class HoldTooSmall(Conflict):
    """A capture never takes more than was set aside."""

    next_step = "Capture at most what was held; charge the rest with a new hold."

    def __init__(self, wanted: int, held: int) -> None:
        super().__init__(
            f"{format_credits(wanted)} credits exceed the {format_credits(held)} held"
        )


class UnknownCharge(NotFound):
    """There is no such charge."""

    is_for_operators = True
    next_step = "Send the charge's identifier as it was answered."

    def __init__(self, charge_id: int) -> None:
        super().__init__(f"{encode_id('ltx', charge_id)} names no charge")


class UnknownGrant(NotFound):
    """There is no such grant."""

    is_for_operators = True
    next_step = "Send the grant's identifier as the balance shows it."

    def __init__(self, grant_id: int) -> None:
        super().__init__(f"{encode_id('grt', grant_id)} names no grant")


class NothingToTakeBack(Conflict):
    """All of the grant was spent, is held by running calls, or has expired."""

    is_for_operators = True
    next_step = "Nothing is to be done, unless a running call gives credits back."

    def __init__(self, grant_id: int) -> None:
        super().__init__(f"nothing is left of {encode_id('grt', grant_id)}")


class UnknownLimit(NotFound):
    """The limit that was to be taken from is gone; nothing was charged."""

    next_step = "Send the same request again: a limit that was removed binds nobody."

    def __init__(self, limit_id: int) -> None:
        super().__init__(f"{encode_id('lim', limit_id)} names no limit")


class LimitReached(TallystickError):
    """Less is left of a limit than the call would take; nothing was charged.

    ``most``, ``used`` and ``left`` count what the limit counts. ``retry_after_seconds``
    is told only when waiting helps: not for a limit that never begins anew, nor for a
    call that takes more than all of it.
    """

    status = 429
    title = "A limit is reached"
    next_step = "Wait until `resets_at`, if it is told, or let the limit be raised."

    def __init__(
        self,
        subject: str,
        name: str,
        amount: int,
        *,
        most: int,
        used: int,
        resets_at_ms: int | None,
        now: int,
    ) -> None:
        left = max(most - used, 0)
        resets_at = None if resets_at_ms is None else rfc3339(resets_at_ms)
        super().__init__(
            f"{amount} would be taken of the limit {name!r}, and {left} is left",
            limit=name,
            most=most,
            used=used,
            left=left,
            resets_at=resets_at,
        )
        # Subjects are spelled with ids that nobody outside is told.
        self.for_operator["subject"] = subject
        if resets_at_ms is not None and amount <= most:
            self.retry_after_seconds = max(-((now - resets_at_ms) // 1000), 1)

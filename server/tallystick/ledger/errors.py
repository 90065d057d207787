"""What the ledger refuses."""

from tallystick.kernel.errors import Conflict, NotFound, TallystickError
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import format_credits


class InsufficientCredits(TallystickError):
    """The customer has less than the call costs. Amounts are micro-credits."""

    status = 402
    title = "Not enough credits"
    next_step = "Buy credits at POST /api/credits/add, then call again."

    def __init__(self, required: int, available: int | None = None) -> None:
        super().__init__(f"{format_credits(required)} credits are needed")
        self.required = required
        self.available = available


class IdempotencyMismatch(Conflict):
    """The key was used before with other input."""

    status = 422
    title = "The idempotency key belongs to another request"
    next_step = "Use a new Idempotency-Key for a new request."

    def __init__(self) -> None:
        super().__init__("this idempotency key was used with a different request")


class UnknownTransaction(NotFound):
    """There is no such transaction, or it moved nothing of the caller's."""

    title = "There is no such transaction"
    next_step = "Take a transaction's id from GET /api/credits/transactions."

    def __init__(self) -> None:
        # The same words for every cause: nobody learns which ids others have.
        super().__init__("no transaction of yours has this id")


class AlreadyReversed(Conflict):
    """Nothing of the transaction is left to be reversed; other keys did it all."""

    is_for_operators = True
    title = "The transaction is reversed already"
    next_step = "Nothing more is to be done; the earlier reversals stand."

    def __init__(self, ledger_transaction_id: int) -> None:
        shown = encode_id("ltx", ledger_transaction_id)
        super().__init__(f"{shown} was reversed by an earlier request")


class ReversalTooLarge(Conflict):
    """Reversals never take back more than the transaction moved; atomic units."""

    is_for_operators = True
    next_step = "Reverse at most what is left of the transaction."

    def __init__(self, ledger_transaction_id: int, wanted: int, left: int) -> None:
        shown = encode_id("ltx", ledger_transaction_id)
        super().__init__(
            f"{wanted} of {shown} cannot be reversed, {left} can", left=left
        )

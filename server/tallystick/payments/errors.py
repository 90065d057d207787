"""What a payment is refused for, beyond what the protocol's checks say."""

from tallystick.kernel.errors import (
    BadInput,
    Conflict,
    NotFound,
    TallystickError,
    Unavailable,
)
from tallystick.kernel.ids import encode_id


class UnknownTopUp(NotFound):
    """There is no such top-up."""

    def __init__(self, topup_id: int) -> None:
        super().__init__(f"{encode_id('top', topup_id)} names no top-up")


class PayerNotLinked(Conflict):
    """The request carries an identity that the paying wallet does not belong to."""

    title = "The wallet belongs to somebody else"
    next_step = (
        "Come as the wallet's own customer, by its key or by a sign-in, or use a wallet"
        " of this customer."
    )

    def __init__(self) -> None:
        super().__init__("the payer's wallet is not linked to the calling customer")


class PaymentAlreadySettled(Conflict):
    """A settled payment's header is public, so it never authorizes a call."""

    title = "This payment is settled already"
    next_step = "Sign a new payment; the wallet's credits will pay for it."


class PaymentInProgress(Conflict):
    """A copy of this payment is being handled right now."""

    title = "This payment is being handled"
    next_step = "Ask again shortly, with the same header."
    retry_after_seconds = 1


class PaymentSpent(Conflict):
    """The payment proved its wallet for a call that charged nothing."""

    title = "This payment was used already"
    next_step = "Nothing was charged. Sign a new payment and call again."

    def __init__(self) -> None:
        super().__init__("this payment came with a call that was not charged")


class UnknownTransfer(NotFound):
    """Nothing of that transaction is in the books without an owner."""

    title = "No such transfer"
    next_step = (
        "Send the hash of a transaction in which your wallet has transferred USDC to"
        " the address in `payTo`. If it is new, ask again in a minute."
    )

    def __init__(self) -> None:
        super().__init__(
            "the transaction brought this seller nothing that waits for its owner"
        )


class TransferNotSafe(Conflict):
    """Its block may still be replaced, or a second provider has yet to show it."""

    title = "The transfer is not safe yet"
    next_step = "Send the same request again; do not transfer again."
    retry_after_seconds = 15

    def __init__(
        self, detail: str = "the transfer arrived, and its block is not safe yet"
    ) -> None:
        super().__init__(detail)


_REDEEM = (
    "Do not pay again. What your wallet has sent is yours: send the hash of its"
    ' transaction as {"transactionId"} to POST /api/credits/add, signed in with that'
    " wallet. If that finds nothing, ask the seller, and name this top-up."
)


class PaymentUnderReview(Conflict):
    """What the chain shows of the payment contradicts itself; a person decides."""

    title = "This payment is being looked into"
    next_step = "Do not pay again. Ask the seller, and name this top-up."

    def __init__(self, topup_id: int | None, *, is_redeemable: bool = False) -> None:
        named = {} if topup_id is None else {"topup": encode_id("top", topup_id)}
        if is_redeemable:
            self.next_step = _REDEEM
        super().__init__(
            "what the chain shows of this payment contradicts itself or what was signed",
            **named,
        )


class PaymentEnded(Conflict):
    """The payment brings nothing any more, but its money may be here: no second one."""

    title = "This payment has ended in another way"
    next_step = _REDEEM

    def __init__(self, topup_id: int, *, is_redeemed: bool) -> None:
        if is_redeemed:
            self.next_step = (
                "Do not pay again. Its money was redeemed by the hash of its transaction:"
                " send the request without a payment, and it takes the credits."
            )
        how = "redeemed by its transaction" if is_redeemed else "closed by the operator"
        super().__init__(f"the payment was {how}", topup=encode_id("top", topup_id))


class TopUpsUnavailable(Unavailable):
    """No settlement can be started now; nothing was claimed."""

    title = "Payments cannot be taken right now"
    next_step = "Try again later. Credits already granted can be spent meanwhile."
    retry_after_seconds = 10


class BooksOfAnotherChain(Unavailable):
    """The books were made on another chain than the one that the nodes show."""

    title = "These books belong to another chain"
    next_step = (
        "The operator must point RPC_URLS at nodes of that chain which are in sync, or"
        " begin new books with another DATABASE_URL. A local chain that was restarted"
        " is a new chain."
    )
    retry_after_seconds = 60

    def __init__(self, anchor_number: int, head_number: int | None) -> None:
        found = "another block is in its place"
        if head_number is not None:
            found = f"the chain ends at block {head_number}"
        super().__init__(
            f"block {anchor_number} was final when these books were written, and"
            f" {found}"
        )


class NothingToRescan(BadInput):
    """The blocks are none that the books have read and that are final."""

    is_for_operators = True
    title = "There is nothing to read again"
    next_step = "Name final blocks, from the first one of the books on."

    def __init__(self, first: int, last: int) -> None:
        super().__init__(
            f"from block {first} on none is read and final yet; the last one is {last}"
        )


class SettlementPending(TallystickError):
    """The payment is under way and its outcome unknown; never pay again."""

    status = 202
    title = "The payment is being settled"
    next_step = "Ask for the top-up's state. Do not sign another payment."
    retry_after_seconds = 2

    def __init__(self, topup_id: int) -> None:
        self.topup_id = topup_id
        self.topup = encode_id("top", topup_id)
        self.location = f"/api/credits/topups/{self.topup}"
        super().__init__(
            "the outcome is not known yet", topup=self.topup, location=self.location
        )

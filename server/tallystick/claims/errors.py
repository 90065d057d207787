"""What a claim refuses."""

from tallystick.kernel.errors import Conflict


class PaymentIdentifierReused(Conflict):
    """The payer has given the same identifier to another payment."""

    title = "This identifier names another payment"
    next_step = (
        "Send the first payment again to learn what became of it, or give a new"
        " payment an identifier of its own."
    )

    def __init__(self) -> None:
        super().__init__("another payment of this wallet has the same identifier")


class PaymentBoundElsewhere(Conflict):
    """The nonce identifies another request, or was signed with other terms."""

    title = "This payment belongs to another request"
    next_step = "Sign a new payment, with a new nonce, for each request."

    def __init__(self) -> None:
        super().__init__("this authorization was presented with another request")

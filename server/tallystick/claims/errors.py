"""What a claim refuses."""

from tallystick.kernel.errors import Conflict


class PaymentBoundElsewhere(Conflict):
    """The nonce identifies another request, or was signed with other terms."""

    title = "This payment belongs to another request"
    next_step = "Sign a new payment, with a new nonce, for each request."

    def __init__(self) -> None:
        super().__init__("this authorization was presented with another request")

"""What can be wrong with a payment or a sign-in before anything is asked of the chain.

No detail ever repeats what was sent: a payment header is a bearer cheque until it is
settled.
"""

from typing import ClassVar

from tallystick.kernel.errors import BadInput, TallystickError, Unauthenticated


class MalformedPayment(BadInput):
    """A payment header that is not the one canonical form of a payment.

    The HTTP transport of the protocol asks for 400 here. ``field`` names the part.
    """

    status: ClassVar[int] = 400
    title = "The payment header cannot be read"
    next_step = "Send one PAYMENT-SIGNATURE header as the x402 specification has it."

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}", field=field)
        self.field = field


class MalformedSettleRequest(BadInput):
    """The body of a request to a facilitator is not one that can be read."""

    status: ClassVar[int] = 400
    title = "The request to the facilitator cannot be read"
    next_step = (
        "Send `x402Version`, `paymentPayload` and `paymentRequirements` as the x402"
        " specification has them (section 7)."
    )

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}", field=field)


class PaymentIdentifierMissing(BadInput):
    """The server wants every payment named, and this one has no name."""

    status: ClassVar[int] = 400
    title = "The payment has no identifier"
    next_step = (
        "Send an `id` of 16 to 128 characters in the extension payment-identifier, which"
        " clients of x402 version 2 have."
    )

    def __init__(self) -> None:
        super().__init__("the extension payment-identifier is required here")


class PaymentRejected(TallystickError):
    """A well-formed payment that does not fit what was offered.

    ``reason`` is a code of ``x402.reasons``. The caller answers with a new challenge
    whose ``error`` is that code.
    """

    status: ClassVar[int] = 402
    title = "The payment was not accepted"
    next_step = "Sign a new payment for one of the entries in `accepts`."

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail, reason=reason)
        self.reason = reason


class AllowanceMissing(PaymentRejected):
    """The payer has not let Permit2 move so much of his token.

    The specification has 412 for it, which stock clients take for the last word; 402
    goes with a challenge whose other entries need no approval.
    """

    title = "Permit2 may not move the payer's money yet"
    next_step = (
        "Approve Permit2 once, as the answer says, and sign a new payment; or pay an entry"
        " of `accepts` without `assetTransferMethod`."
    )

    def __init__(self, reason: str, token: str, spender: str) -> None:
        super().__init__(reason, "the payer's allowance to Permit2 is too small")
        self.next_step = (
            f"Once: call approve({spender}, amount) of the token {token} from the"
            " payer's wallet, then sign a new payment. Or pay an entry of `accepts`"
            " without `assetTransferMethod`, which needs no approval."
        )


class MalformedSignIn(BadInput):
    """A sign-in header that is not the one canonical form of a sign-in."""

    status: ClassVar[int] = 400
    title = "The sign-in header cannot be read"
    next_step = "Send one SIGN-IN-WITH-X header, made from the latest challenge."

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}", field=field)
        self.field = field


class SignInRejected(Unauthenticated):
    """A well-formed sign-in that proves nobody.

    ``reason`` is one of the ``invalid_siwx_…`` codes of ``x402.reasons``. On a priced
    route the caller answers with a new 402, not with 401: stock clients take every
    other status for the final answer and would not go on to pay.
    """

    title = "The sign-in was not accepted"
    next_step = "Sign the sign-in-with-x offer of a fresh 402 answer."

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail, reason=reason)
        self.reason = reason

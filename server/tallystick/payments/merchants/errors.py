"""What other sellers are refused for, who have payments settled here."""

from typing import ClassVar

from tallystick.kernel.errors import Forbidden, NotFound, Unauthenticated, Unavailable
from tallystick.kernel.ids import encode_id


class MerchantKeyRequired(Unauthenticated):
    """The facilitator serves only sellers that its operator knows."""

    title = "A merchant key is required"
    next_step = (
        "Send a key of `tallystick merchant add` as `Authorization: Bearer mk_…`."
    )

    def __init__(self) -> None:
        super().__init__("this route takes a merchant key")


class InvalidMerchantKey(Unauthenticated):
    """The merchant key is wrong or revoked; which of these is not said."""

    title = "The merchant key is not valid"
    next_step = (
        "Send a key of `tallystick merchant add` as `Authorization: Bearer mk_…`."
    )

    def __init__(self) -> None:
        super().__init__("the merchant key is not valid")


class PayeeNotAllowed(Forbidden):
    """Payments to this address are not settled for this merchant."""

    title = "Payments to this address are not settled for you"
    next_step = "Ask the facilitator's operator to allow the address of `payTo`."

    def __init__(self, why: str = "payTo is not an address of this merchant's") -> None:
        super().__init__(why)


class UnknownMerchant(NotFound):
    """There is no such merchant, or its key has ended."""

    next_step = "Look for its id with `tallystick merchant list`."
    is_for_operators: ClassVar[bool] = True

    def __init__(self, merchant_id: int) -> None:
        super().__init__(f"{encode_id('mer', merchant_id)} names no active merchant")


class SettlementsUnavailable(Unavailable):
    """No payment can be verified or settled for others now; nothing was stored."""

    title = "Payments cannot be settled right now"
    next_step = "Send the same request again later."
    retry_after_seconds = 5


class TooManyForMerchant(Unavailable):
    """So many requests of this merchant go on already; nothing was done for this one."""

    title = "Too many of your requests are under way"
    next_step = "Send the same request again once others are answered."
    retry_after_seconds = 2

    def __init__(self, at_most: int) -> None:
        super().__init__(f"{at_most} requests of this merchant go on already")

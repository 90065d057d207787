"""What a proof of identity is refused for."""

from tallystick.kernel.errors import Conflict, Forbidden, NotFound, Unauthenticated
from tallystick.kernel.ids import encode_id


class InvalidKey(Unauthenticated):
    """The key is wrong, expired or revoked; which of these is not said."""

    title = "The API key is not valid"
    next_step = "Send a valid key as `Authorization: Bearer tk_…`."

    def __init__(self) -> None:
        super().__init__("the API key is not valid")


class IdentityRequired(Unauthenticated):
    """The request names nobody."""

    title = "Who is calling?"
    next_step = (
        "Send `Authorization: Bearer tk_…`, or sign the `sign-in-with-x` challenge in"
        " this answer and send it as the SIGN-IN-WITH-X header."
    )

    def __init__(self) -> None:
        super().__init__("this request needs a customer")


class ServiceKeyRequired(Unauthenticated):
    """The route is the seller's own and nobody is calling."""

    title = "A service key is required"
    next_step = (
        "Send a key of `tallystick service-key` as `Authorization: Bearer sk_…`."
    )

    def __init__(self) -> None:
        super().__init__("this route takes a service key of the seller's")


class SellersOnly(Forbidden):
    """The route is the seller's own and a customer is calling."""

    title = "This is for the seller's own servers"
    next_step = (
        "Send a key of `tallystick service-key` as `Authorization: Bearer sk_…`."
    )

    def __init__(self) -> None:
        super().__init__("a customer may not call this route")


class ScopeMissing(Forbidden):
    """The key is valid and was not given this right."""

    title = "The key may not do this"
    next_step = "Use a key that was made with this scope."

    def __init__(self, scope: str) -> None:
        super().__init__(f"the key lacks the scope {scope}", scope=scope)


class UnknownKey(NotFound):
    """There is no such key, or it is not the caller's, or it has ended."""

    def __init__(self, key_id: int) -> None:
        super().__init__(f"{encode_id('key', key_id)} names no active key")


class TooManyKeys(Conflict):
    """The customer has as many active keys as one can have."""

    title = "There are too many API keys"
    next_step = "Revoke a key that is not needed any more, then make the new one."

    def __init__(self, at_most: int) -> None:
        super().__init__(f"a customer has at most {at_most} active keys")


class SignInReplayed(Unauthenticated):
    """The sign-in was used before."""

    title = "This sign-in was used already"
    next_step = "Sign the challenge of a fresh answer; each one works once."

    def __init__(self) -> None:
        super().__init__("the sign-in nonce was used before")

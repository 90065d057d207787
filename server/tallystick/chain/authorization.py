"""What a payer signs (EIP-3009 TransferWithAuthorization), as this room sees it."""

from typing import Protocol


class AuthorizationFields(Protocol):
    """The six signed fields: addresses of 20 bytes, a nonce of 32, times in seconds.

    ``value`` is in the token's atomic units. The window is open: the chain wants
    ``valid_after < block timestamp < valid_before``.
    """

    @property
    def payer(self) -> bytes: ...

    @property
    def pay_to(self) -> bytes: ...

    @property
    def value(self) -> int: ...

    @property
    def valid_after(self) -> int: ...

    @property
    def valid_before(self) -> int: ...

    @property
    def nonce(self) -> bytes: ...

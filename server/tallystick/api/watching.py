"""Who may read the operator's figures: whoever has the token, else only the machine.

What is pending, exposed and held by the relayers is nobody's business but the seller's.
"""

import hmac
import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fastapi import Request

from tallystick.api.errors import ReservedForOperators


@dataclass(frozen=True, slots=True)
class Watchers:
    """Whoever has the ``token``; without one this machine, and only if ``is_local``.

    That is when our address as clients know it is on this machine, too: a proxy
    here makes everybody look local, and who runs one has another address for clients.
    """

    token: str | None = field(default=None, repr=False)
    is_local: bool = False

    def admit(self, request: Request) -> bool:
        """Whether this request may read them."""
        if self.token is None:
            return self.is_local and _is_on_loopback(request)
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode(), self.token.encode()
        )

    def require(self, request: Request) -> None:
        """Raise ``ReservedForOperators`` unless it may."""
        if not self.admit(request):
            raise ReservedForOperators


def is_local_address(url: str) -> bool:
    """Whether an address names this machine."""
    return _is_loopback(urlsplit(url).hostname or "")


def _is_on_loopback(request: Request) -> bool:
    return request.client is not None and _is_loopback(request.client.host)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

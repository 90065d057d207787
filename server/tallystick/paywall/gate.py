"""Everything that admitting a request needs, built once by the app."""

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tallystick.catalog.models import Catalog
from tallystick.identity.wallet_sign_in import WalletSignIn
from tallystick.kernel.db import Database
from tallystick.kernel.seal import Seal
from tallystick.payments.rail import Rail
from tallystick.paywall.plain import PlainWrites, plain_writes


@dataclass(frozen=True, slots=True)
class Gate:
    """``hold_seconds`` is how long a hold lives without a heartbeat.

    ``public_url`` is our address as clients know it, without a trailing slash;
    ``api_prefix`` what stands before our own paths in it, such as ``/billing``;
    ``quote_seconds`` how long an offer is honoured. With ``wants_identifiers`` every
    payment must have its payer's own name (the extension payment-identifier). Where it
    ``is_discoverable`` a 402 says how the route is called (the extension bazaar).
    """

    db: Database
    rail: Rail
    seal: Seal
    sign_in: WalletSignIn
    catalog: Callable[[], Catalog]
    public_url: str
    hold_seconds: int = 60
    quote_seconds: int = 300
    api_prefix: str = ""
    wants_identifiers: bool = False
    is_discoverable: bool = False
    writes: PlainWrites = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "writes", plain_writes(self.db))

    @property
    def public_path(self) -> str:
        """What a proxy takes off the path before we see it, such as ``/pay``."""
        return urlsplit(self.public_url).path

    @property
    def api_url(self) -> str:
        """Where our own routes begin."""
        return self.public_url + self.api_prefix

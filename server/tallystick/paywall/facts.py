"""What a request says, in no framework's words."""

from dataclasses import dataclass

from tallystick.catalog.models import Feature
from tallystick.kernel.money import MicroCredits
from tallystick.kernel.seal import digest16
from tallystick.x402.wire import PaymentPayload


def request_binding(
    method: str, path: str, query: bytes, body_sha256: bytes, what: str
) -> str:
    """16 bytes in hex that stand for one exact request.

    ``path`` is as it was sent, percent-encoded; the body's hash stands for it, so that
    a server of the seller's need not send it on. ``what`` is what the request buys: a
    quantity may hang on a header or on the time, which the other parts do not hold,
    and a quote for one unit must not pay for a hundred.
    """
    parts = (method.encode(), path.encode(), query, body_sha256, what.encode())
    return digest16(*parts).hex()


def priced_as(feature: Feature, quantity: int) -> str:
    """What a call buys, for its binding; ``quantity`` in millionths of the unit."""
    return f"{feature.slug}:{quantity}"


@dataclass(frozen=True, slots=True)
class Facts:
    """A request for a priced feature. Its caller, if any, is proven already.

    ``quantity`` is millionths of the feature's unit, ``price`` micro-credits, ``url``
    the address that the client called, ``wait_ms`` how long it waits for a settlement.
    ``sign_in_path`` is None where our sign-in would be for another origin than the
    client's: stock clients break off then instead of paying. ``may_spend`` is whether
    the caller may make the call, and so have its answer again, without a payment.
    ``idempotency_key`` is the caller's own text, ``method`` HTTP's.
    """

    feature: Feature
    quantity: int
    price: MicroCredits
    url: str
    binding: str
    wait_ms: int
    method: str = "GET"
    sign_in_path: str | None = None
    customer_id: int | None = None
    may_spend: bool = True
    payment: PaymentPayload | None = None
    idempotency_key: str | None = None

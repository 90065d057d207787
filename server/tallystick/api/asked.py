"""A request for something priced, in the few words that the paywall needs.

Two doors make one: a request that we got ourselves, and one that a server of the
seller's got and asks about (``relayed.py``). Both bind a payment to the same bytes.
"""

from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import quote

from fastapi import Request
from starlette.datastructures import Headers

from tallystick.api.bodies import bounded_body
from tallystick.api.errors import InvalidRequest
from tallystick.api.passage import gate_of, passage_of
from tallystick.catalog.models import Feature
from tallystick.kernel.money import MicroCredits
from tallystick.paywall.facts import Facts, priced_as, request_binding
from tallystick.paywall.gate import Gate
from tallystick.x402.headers import decode_payment
from tallystick.x402.siwe_message import origin_of
from tallystick.x402.wire import PaymentPayload

LARGEST_PRICED_BODY_BYTES = 1024 * 1024
_LONGEST_KEY = 255


@dataclass(frozen=True, slots=True)
class Asked:
    """``path`` and ``query`` are as they were sent, ``url`` is what the client called.

    ``sign_in_path`` is None where a sign-in for our origin would not be theirs.
    """

    method: str
    path: str
    query: bytes
    headers: Headers
    body_sha256: bytes
    url: str
    sign_in_path: str | None

    def binding(self, what: str) -> str:
        """What stands for this exact request when it buys that."""
        return request_binding(
            self.method, self.path, self.query, self.body_sha256, what
        )

    def payment(self) -> PaymentPayload | None:
        """The payment in the headers; raises ``MalformedPayment``."""
        v2 = self.headers.getlist("payment-signature")
        return decode_payment(v2, self.headers.getlist("x-payment"))

    def brings_payment(self) -> bool:
        """Whether there is a payment header, good or not."""
        return "payment-signature" in self.headers or "x-payment" in self.headers

    def wait_ms(self, at_most: int) -> int:
        """How long the client waits for a settlement."""
        return 0 if "respond-async" in self.headers.get("prefer", "") else at_most

    def facts(
        self, feature: Feature, quantity: int, price: MicroCredits, settle_wait_ms: int
    ) -> Facts:
        """The same for the paywall; its caller and payment are still to be read."""
        return Facts(
            feature=feature,
            quantity=quantity,
            price=price,
            url=self.url,
            binding=self.binding(priced_as(feature, quantity)),
            wait_ms=self.wait_ms(settle_wait_ms),
            method=self.method,
            sign_in_path=self.sign_in_path,
            idempotency_key=self.idempotency_key(),
        )

    def idempotency_key(self) -> str | None:
        """The caller's own name for the request; raises ``InvalidRequest``."""
        names = self.headers.getlist("idempotency-key")
        if not names:
            return None
        if len(names) > 1 or not 0 < len(names[0]) <= _LONGEST_KEY:
            problem = f"one Idempotency-Key of 1 to {_LONGEST_KEY} characters is taken"
            raise InvalidRequest(problem, field="Idempotency-Key")
        return names[0]


async def asked_of(
    request: Request, largest_body_bytes: int = LARGEST_PRICED_BODY_BYTES
) -> Asked:
    """Our own request; its body is read, unless somebody has read it already.

    Raises ``BodyTooLarge``.
    """
    gate, path = gate_of(request), _sent_path(request)
    url = gate.public_url + path
    return Asked(
        method=request.method,
        path=path,
        query=request.scope["query_string"],
        headers=request.headers,
        body_sha256=await _body_sha256(request, largest_body_bytes),
        url=url,
        sign_in_path=sign_in_path(gate, url),
    )


def sign_in_path(gate: Gate, url: str) -> str | None:
    """The URL's path if a sign-in can be offered there: at our own origin only.

    A client that is offered one for another origin breaks off instead of paying.
    """
    origin = gate.sign_in.origin
    return url[len(origin) :] if origin_of(url) == origin else None


async def _body_sha256(request: Request, largest_bytes: int) -> bytes:
    body = passage_of(request).body
    if not body.is_complete:
        raw = await bounded_body(request, largest_bytes)
        if not body.is_complete:
            # Somebody's middleware gave the request another body than came in.
            return sha256(raw).digest()
    return body.sha256()


def _sent_path(request: Request) -> str:
    raw: bytes | None = request.scope.get("raw_path")
    if raw is None:
        # Optional in ASGI; then an encoding that its servers share stands for it.
        return quote(request.scope["path"])
    return raw.decode("latin-1")

"""Who is calling, from a request's headers."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import Headers

from tallystick.api.errors import InvalidRequest, TwoIdentities
from tallystick.api.passage import gate_of
from tallystick.customers.errors import UnknownCustomer
from tallystick.customers.wallets import named_customer
from tallystick.identity.errors import (
    IdentityRequired,
    SellersOnly,
    ServiceKeyRequired,
    SignInReplayed,
)
from tallystick.identity.keys import ProvenKey, Scope, verify_key
from tallystick.identity.models import KeyKind
from tallystick.payments.errors import PayerNotLinked
from tallystick.paywall.gate import Gate
from tallystick.x402 import reasons
from tallystick.x402.errors import PaymentRejected, SignInRejected
from tallystick.x402.headers import decode_payment
from tallystick.x402.keccak import checksum_address

SIGN_IN = "sign-in-with-x"
CUSTOMER = "tallystick-customer"
NOBODY = 0
"""No customer's number: a wallet that has never paid has nothing, as this one has."""
_OUR_KEYS = ("tk_", "sk_")


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody proven. A service key alone names no customer.

    ``stranger`` is the address of a wallet that signed in and has never paid, so that
    it is nobody's: it has nothing and may read that.
    """

    customer_id: int | None
    key: ProvenKey | None = None
    stranger: bytes | None = None

    @property
    def owner(self) -> int:
        """Whose credits to read; a wallet that has never paid has nobody's, so none."""
        return self.customer_id or NOBODY

    @property
    def is_seller(self) -> bool:
        return self.key is not None and self.key.kind == KeyKind.SERVICE

    def may(self, scope: Scope) -> bool:
        """Whether the caller may; a wallet may everything."""
        return self.key is None or scope in self.key.scopes

    def require(self, scope: Scope) -> None:
        """Raise ``ScopeMissing`` unless the caller may; a wallet may everything."""
        if self.key is not None:
            self.key.require(scope)


async def identify(
    gate: Gate, headers: Headers, *, may_be_foreign: bool = False
) -> Caller | None:
    """The caller, or None for an anonymous one.

    ``may_be_foreign``: on a seller's own route a token that does not look like a key of
    ours belongs to the seller's own sign-in. Raises ``InvalidKey``, ``TwoIdentities``,
    ``UnknownCustomer`` or what a sign-in is refused with.
    """
    key = _key_text(headers, may_be_foreign=may_be_foreign)
    sign_in = headers.getlist(SIGN_IN)
    if key is not None and sign_in:
        raise TwoIdentities("the request carries a key and a sign-in")
    if len(sign_in) > 1:
        raise TwoIdentities("the request carries two sign-ins")
    if sign_in:
        _require_unnamed(headers)
        wallet = await gate.sign_in.sign_in(gate.db, sign_in[0])
        if wallet.customer_id is None:
            return Caller(None, stranger=wallet.address)
        return Caller(wallet.customer_id)
    if key is None:
        return None
    async with gate.db.read() as session:
        proven = await verify_key(session, gate.seal, key)
    if proven.kind == KeyKind.SERVICE:
        return Caller(await _named_customer(gate, headers), proven)
    _require_unnamed(headers)
    return Caller(proven.customer_id, proven)


def _require_unnamed(headers: Headers) -> None:
    if CUSTOMER in headers:
        raise TwoIdentities(f"only a service key goes with a {CUSTOMER} header")


def _key_text(headers: Headers, *, may_be_foreign: bool) -> str | None:
    keys = headers.getlist("x-api-key")
    for text in headers.getlist("authorization"):
        scheme, _, token = text.partition(" ")
        if scheme.lower() == "bearer":
            keys.append(token.strip())
    if may_be_foreign:
        keys = [key for key in keys if key.startswith(_OUR_KEYS)]
    if len(keys) > 1:
        raise TwoIdentities("the request carries more than one key")
    return keys[0] if keys else None


async def _named_customer(gate: Gate, headers: Headers) -> int | None:
    """Whom a service key acts for: ``Tallystick-Customer: cus_…`` or a wallet.

    Raises ``UnknownCustomer``: to go on as if nobody had been named would ask somebody
    else to pay.
    """
    names = headers.getlist(CUSTOMER)
    if not names:
        return None
    if len(names) > 1:
        raise TwoIdentities("the request names more than one customer")
    async with gate.db.read() as session:
        return await named_customer(session, names[0])


async def identify_or_challenge(
    gate: Gate, headers: Headers, *, may_be_foreign: bool = False
) -> Caller | None:
    """As ``identify``, for priced routes: a bad or used sign-in gets a 402, not a 401.

    Stock clients take every other answer for the last word and would not go on to pay.
    Raises ``PayerNotLinked`` also for a stranger's sign-in beside another's payment.
    """
    try:
        caller = await identify(gate, headers, may_be_foreign=may_be_foreign)
    except SignInRejected as refusal:
        raise _to_challenge(refusal, refusal.reason) from refusal
    except SignInReplayed as refusal:
        raise _to_challenge(refusal, reasons.SIWX_NONCE) from refusal
    if caller is not None and caller.stranger is not None:
        _require_own_payment(headers, caller.stranger)
    return caller


def _require_own_payment(headers: Headers, stranger: bytes) -> None:
    # No customer stands for the stranger, so the paywall would miss the contradiction.
    v2, v1 = headers.getlist("payment-signature"), headers.getlist("x-payment")
    payment = decode_payment(v2, v1)
    if payment is not None and payment.authorization.payer != stranger:
        raise PayerNotLinked


def _to_challenge(
    refusal: SignInRejected | SignInReplayed, reason: str
) -> PaymentRejected:
    challenged = PaymentRejected(reason, refusal.detail)
    # The protocol has one word for several causes; ours tells them apart.
    challenged.members["cause"] = refusal.code
    return challenged


async def require_reader(request: Request) -> Caller:
    """The caller, who is a customer or a wallet that has just signed in.

    Raises ``IdentityRequired`` with a sign-in to sign, and what ``identify`` does.
    """
    gate = gate_of(request)
    caller = await identify(gate, request.headers)
    if caller is None:
        refusal = IdentityRequired()
        path = gate.public_path + request.url.path
        refusal.members["extensions"] = gate.sign_in.offer(path)
        raise refusal
    if caller.customer_id is None and caller.stranger is None:
        raise InvalidRequest(
            f"a service key names its customer in the {CUSTOMER} header"
        )
    return caller


async def _require_customer(request: Request) -> Caller:
    caller = await require_reader(request)
    if caller.stranger is not None:
        raise UnknownCustomer(checksum_address(caller.stranger))
    return caller


async def require_seller(request: Request) -> None:
    """Only a server of the seller's may go on.

    Raises ``ServiceKeyRequired``, ``SellersOnly`` and what ``identify`` does.
    """
    caller = await identify(gate_of(request), request.headers)
    if caller is None:
        raise ServiceKeyRequired
    if not caller.is_seller:
        raise SellersOnly
    caller.require(Scope.SPEND)


CustomerDep = Annotated[Caller, Depends(_require_customer)]
ReaderDep = Annotated[Caller, Depends(require_reader)]
"""A customer, or a wallet that signed in and has never paid."""
GateDep = Annotated[Gate, Depends(gate_of)]

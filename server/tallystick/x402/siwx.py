"""The extension sign-in-with-x: a wallet proves itself, so as to spend its credits.

Stock clients that have it sign the offer of a 402 and send it back before they think
of paying. The offer is stateless: its nonce is a sealed token, so that an anonymous
402 writes nothing. That a nonce works only once is for the caller to see to.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from tallystick.x402 import reasons
from tallystick.x402.errors import MalformedSignIn, SignInRejected
from tallystick.x402.fields import (
    FieldRefused,
    address,
    hex_bytes,
    member,
    optional_member,
)
from tallystick.x402.signature import (
    ContractQuestion,
    MalformedSignature,
    Recovered,
    recover,
)
from tallystick.x402.siwe_message import (
    SignInMessage,
    format_time,
    origin_of,
    parse_time,
    personal_digest,
)
from tallystick.x402.strict_json import decode_header

SIGN_IN_WITH_X: Final = "sign-in-with-x"
"""The key of the extension, and (in any case of letters) the name of the header."""

MAX_LIFETIME_SECONDS: Final = 300
MAX_CLOCK_SKEW_SECONDS: Final = 60

MakeNonce = Callable[[bytes], str]
"""Makes letters and digits that are bound to the offer."""

CheckNonce = Callable[[str, bytes], bool]
"""Whether the nonce was made by us, for just this offer."""

_PATH_CHARACTERS: Final = "/:@!$&'()*+,;=%-._~"
_MEMBERS: Final = (
    "domain address uri version chainId type nonce issuedAt expirationTime signature"
)
# Stock clients send the declaration back inside of every payment, so the schema says
# no more than the client needs: what to send.
_SCHEMA: Final = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": _MEMBERS.split(),
}


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A wallet that is proven until ``expires_at_seconds``, for one use of ``nonce``.

    ``uri`` is the address of the 402 that made the offer.
    """

    address: bytes
    nonce: str
    uri: str
    issued_at_seconds: int
    expires_at_seconds: int


@dataclass(frozen=True, slots=True)
class UnprovenSignIn:
    """Nobody is proven yet: ask the chain, and take ``if_valid`` only on its yes."""

    question: ContractQuestion
    if_valid: SignedIn


def declare_siwx(
    *,
    origin: str,
    path: str,
    chain_id: int,
    now_seconds: int,
    make_nonce: MakeNonce,
    statement: str | None = None,
    lifetime_seconds: int = MAX_LIFETIME_SECONDS,
) -> dict[str, Any]:
    """The member of a challenge's ``extensions`` that offers a sign-in.

    ``origin`` is our own public one, such as ``https://api.example.com``, in lower
    case and without a default port: clients compare it with where they sent the
    request (``origin_of`` gives it back unchanged). ``path`` may hold anything.
    """
    assert 0 < lifetime_seconds <= MAX_LIFETIME_SECONDS, "an offer is short-lived"
    offer = SignInMessage(
        domain=_domain_of(origin),
        uri=origin + _quoted(path),
        statement=statement,
        chain_id=chain_id,
        nonce="00000000",
        issued_at=format_time(now_seconds),
        expiration_time=format_time(now_seconds + lifetime_seconds),
    )
    words = {} if statement is None else {"statement": statement}
    info = words | {
        "domain": offer.domain,
        "uri": offer.uri,
        "version": "1",
        "nonce": make_nonce(offer.offer()),
        "issuedAt": offer.issued_at,
        "expirationTime": offer.expiration_time,
    }
    chains = [{"chainId": f"eip155:{chain_id}", "type": "eip191"}]
    declaration = {"info": info, "supportedChains": chains, "schema": _SCHEMA}
    return {SIGN_IN_WITH_X: declaration}


def verify_siwx(
    header_value: bytes | str,
    *,
    expected_origin: str,
    chain_id: int,
    now_seconds: int,
    check_nonce: CheckNonce,
) -> SignedIn | UnprovenSignIn:
    """Who signed in with this header.

    The domain must be the host of ``expected_origin`` and the URI on it. Raises
    ``MalformedSignIn`` for a header in any but the canonical form, ``SignInRejected``
    for one that is not (or no longer) good.
    """
    try:
        document = decode_header(header_value, SIGN_IN_WITH_X)
        message = _read_message(document, chain_id)
        claim = SignedIn(
            address=address(document, "address"),
            nonce=message.nonce,
            uri=message.uri,
            issued_at_seconds=parse_time(message.issued_at, "issuedAt"),
            expires_at_seconds=parse_time(message.expiration_time, "expirationTime"),
        )
        signature = hex_bytes(document, "signature")
    except FieldRefused as refusal:
        raise MalformedSignIn(refusal.field, refusal.problem) from None
    _check_place(message, expected_origin)
    _check_time(claim, now_seconds)
    if not check_nonce(message.nonce, message.offer()):
        raise SignInRejected(reasons.SIWX_NONCE, "nonce is not one of this offer")
    return _prove(claim, personal_digest(message.text(document["address"])), signature)


def _read_message(document: Mapping[str, Any], chain_id: int) -> SignInMessage:
    """The signed members, all of which we chose; raises ``FieldRefused``."""
    if member(document, "version", str) != "1":
        raise FieldRefused("version", "must be 1")
    for absent in ("notBefore", "requestId", "resources"):
        if document.get(absent) is not None:
            raise FieldRefused(absent, "was not offered")
    if member(document, "type", str) != "eip191":
        raise SignInRejected(reasons.SIWX_UNSUPPORTED_CHAIN, "type is not eip191")
    if member(document, "chainId", str) != f"eip155:{chain_id}":
        raise SignInRejected(reasons.SIWX_CHAIN_ID, "chainId is not the one offered")
    return SignInMessage(
        domain=member(document, "domain", str),
        uri=member(document, "uri", str),
        statement=optional_member(document, "statement", str),
        chain_id=chain_id,
        nonce=member(document, "nonce", str),
        issued_at=member(document, "issuedAt", str),
        expiration_time=member(document, "expirationTime", str),
    )


def _check_place(message: SignInMessage, expected_origin: str) -> None:
    if message.domain != _domain_of(expected_origin):
        raise SignInRejected(reasons.SIWX_DOMAIN, "domain is not this server's")
    if origin_of(message.uri) != expected_origin:
        raise SignInRejected(reasons.SIWX_URI, "uri is not on this server")


def _check_time(claim: SignedIn, now_seconds: int) -> None:
    if claim.issued_at_seconds > now_seconds + MAX_CLOCK_SKEW_SECONDS:
        raise SignInRejected(
            reasons.SIWX_ISSUED_AT_IN_FUTURE, "issuedAt lies in the future"
        )
    if claim.expires_at_seconds <= now_seconds:
        raise SignInRejected(reasons.SIWX_EXPIRED, "expirationTime has passed")
    lifetime_seconds = claim.expires_at_seconds - claim.issued_at_seconds
    if lifetime_seconds > MAX_LIFETIME_SECONDS:
        raise SignInRejected(
            reasons.SIWX_EXPIRATION_TIME,
            f"expirationTime is more than {MAX_LIFETIME_SECONDS} seconds after issuedAt",
        )


def _prove(
    claim: SignedIn, digest: bytes, signature: bytes
) -> SignedIn | UnprovenSignIn:
    recovery = recover(digest, signature)
    if isinstance(recovery, MalformedSignature):
        raise SignInRejected(reasons.SIWX_SIGNATURE, f"signature {recovery.problem}")
    if isinstance(recovery, Recovered) and recovery.address == claim.address:
        return claim
    problem = None if isinstance(recovery, Recovered) else recovery.problem
    question = ContractQuestion(claim.address, digest, signature, problem)
    return UnprovenSignIn(question, claim)


def _quoted(path: str) -> str:
    """The path as a URL may hold it; the slash keeps the origin from growing."""
    rooted = "/" + path.removeprefix("/")
    return quote(rooted, safe=_PATH_CHARACTERS, errors="replace")


def _domain_of(origin: str) -> str:
    assert origin_of(origin) == origin, "an origin is scheme, host and port"
    return origin.partition("://")[2]

"""Whether a 402 is what x402 clients of both versions take, member by member.

Written from the specification (v2 of 2025-12-09, v1 as ``x402-fetch`` reads it) and
apart from the code that makes the challenge, which could be wrong in the same way.
"""

import json
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tallystick.x402.strict_json import MAX_HEADER_BYTES

Rule = tuple[Callable[[Any], bool], str]
_AMOUNT: Final = re.compile(r"[1-9][0-9]{0,77}")
_CAIP2: Final = re.compile(r"eip155:[1-9][0-9]{0,31}")
_URL: Final = re.compile(r"https?://[^\s/?#]+(?:[/?#]\S*)?")
_SAMPLE: Final = {
    "signature": "0x" + "ff" * 65,
    "authorization": {
        "from": "0x" + "ff" * 20,
        "to": "0x" + "ff" * 20,
        "value": "1000000000",
        "validAfter": "0",
        "validBefore": "1800000000",
        "nonce": "0x" + "ff" * 32,
    },
}


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be offered: addresses as text with checksum, the network twice."""

    caip2: str
    v1_name: str
    asset: str
    pay_to: str
    domain: Mapping[str, str]
    url: str


def read_offer(header: str) -> Any:
    """The JSON of PAYMENT-REQUIRED; raises ``ValueError`` with what is wrong."""
    try:
        raw = b64decode(header, validate=True)
        return json.loads(raw, object_pairs_hook=_once)
    except (Base64Error, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError("is no base64 of JSON") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("names a member twice")
    return dict(pairs)


def faults_of_v2(offer: Any, expected: Expected) -> Iterator[str]:
    """What is wrong with the header's document, in words."""
    yield from _faults("PAYMENT-REQUIRED", offer, _OFFER, optional={"extensions"})
    if not isinstance(offer, dict):
        return
    yield from _faults("resource", offer.get("resource"), _resource(expected))
    for number, entry in enumerate(_list(offer, "accepts")):
        where = f"accepts[{number}]"
        yield from _faults(where, entry, _entry_v2(expected))
        yield from _faults_of_echo(where, offer, entry)
    extensions = offer.get("extensions")
    for name, one in extensions.items() if isinstance(extensions, dict) else ():
        # What else stands there is each extension's own.
        others = set(one) - set(_EXTENSION) if isinstance(one, dict) else ()
        yield from _faults(name, one, _EXTENSION, optional=others)


def faults_of_v1(body: Any, expected: Expected) -> Iterator[str]:
    """The same for the body, in which a problem document stands as well."""
    if not isinstance(body, dict):
        yield "the body is no object"
        return
    ours = {name: body[name] for name in _BODY if name in body}
    yield from _faults("the body", ours, _BODY)
    for number, entry in enumerate(_list(body, "accepts")):
        yield from _faults(f"the body's accepts[{number}]", entry, _entry_v1(expected))


def disagreements(offer: Any, body: Any) -> Iterator[str]:
    """What the two versions promise differently."""
    v2 = {_said(one, "amount") for one in _list(offer, "accepts")}
    v1 = {_said(one, "maxAmountRequired") for one in _list(body, "accepts")}
    if v1 != v2:
        yield "header and body offer other amounts"
    urls = {one.get("resource") for one in _list(body, "accepts")}
    resource = offer.get("resource")
    if isinstance(resource, dict) and urls != {resource.get("url")}:
        yield "header and body name other resources"


def _said(entry: Mapping[str, Any], amount: str) -> tuple[Any, ...]:
    return tuple(entry.get(name) for name in (amount, "asset", "payTo"))


def _faults_of_echo(where: str, offer: Any, entry: Any) -> Iterator[str]:
    """Stock clients send most of the offer back, in a header that must not be long."""
    echo = {"x402Version": 2, "payload": _SAMPLE, "accepted": entry}
    echo |= {name: offer[name] for name in ("resource", "extensions") if name in offer}
    size = len(b64encode(json.dumps(echo, separators=(",", ":")).encode()))
    if size > MAX_HEADER_BYTES:
        yield f"a payment of {where} has {size} bytes, more than is read"


def _faults(
    where: str,
    value: Any,
    rules: Mapping[str, Rule],
    optional: Collection[str] = (),
) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where} is no object"
        return
    for name in sorted(rules.keys() - value.keys() - set(optional)):
        yield f"{where}: {name} is missing"
    for name in sorted(value.keys() - rules.keys() - set(optional)):
        yield f"{where}: {name} is no member of the protocol"
    for name, (fits, words) in rules.items():
        if name in value and not fits(value[name]):
            yield f"{where}: {name} {words}"


def _list(document: Any, name: str) -> list[Any]:
    found = document.get(name) if isinstance(document, dict) else None
    entries = found if isinstance(found, list) else []
    return [one for one in entries if isinstance(one, dict)]


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _is(wanted: object, words: str) -> Rule:
    return lambda value: type(value) is type(wanted) and value == wanted, words


def _fits(pattern: re.Pattern[str], words: str) -> Rule:
    return (
        lambda value: isinstance(value, str) and bool(pattern.fullmatch(value)),
        words,
    )


_TEXT: Final[Rule] = (lambda value: isinstance(value, str), "is no text")
_OBJECT: Final[Rule] = (lambda value: isinstance(value, dict), "is no object")
_ENTRIES: Final[Rule] = (_is_list, "is no list of offers")
_SECONDS: Final[Rule] = (
    lambda value: type(value) is int and 0 < value <= 3600,
    "is no number of seconds",
)
_TEXTS: Final[Rule] = (
    lambda value: (
        isinstance(value, dict) and all(isinstance(one, str) for one in value.values())
    ),
    "is no object of texts",
)
_OFFER: Final[Mapping[str, Rule]] = {
    "x402Version": _is(2, "is not 2"),
    "error": _TEXT,
    "resource": _OBJECT,
    "accepts": _ENTRIES,
    "extensions": _OBJECT,
}
_EXTENSION: Final[Mapping[str, Rule]] = {"info": _OBJECT, "schema": _OBJECT}
_BODY: Final[Mapping[str, Rule]] = {
    "x402Version": _is(1, "is not 1"),
    "error": _TEXT,
    "accepts": _ENTRIES,
}


def _resource(expected: Expected) -> Mapping[str, Rule]:
    ours = re.compile(re.escape(expected.url) + r"(?:/\S*)?")
    return {
        "url": _fits(ours, "is not below PUBLIC_URL"),
        "description": _TEXT,
        "mimeType": _TEXT,
    }


def _entry(expected: Expected) -> dict[str, Rule]:
    return {
        "scheme": _is("exact", "is not exact"),
        "asset": _is(expected.asset, f"is not {expected.asset}"),
        "payTo": _is(expected.pay_to, f"is not {expected.pay_to}"),
        "maxTimeoutSeconds": _SECONDS,
    }


def _entry_v2(expected: Expected) -> Mapping[str, Rule]:
    def names_domain(value: Any) -> bool:
        return _TEXTS[0](value) and expected.domain.items() <= value.items()

    return _entry(expected) | {
        "network": (
            lambda value: _fits(_CAIP2, "")[0](value) and value == expected.caip2,
            f"is not {expected.caip2}",
        ),
        "amount": _fits(_AMOUNT, "is no number of atomic units"),
        "extra": (names_domain, "does not name the token's EIP-712 domain"),
    }


def _entry_v1(expected: Expected) -> Mapping[str, Rule]:
    return _entry(expected) | {
        "network": _is(expected.v1_name, f"is not {expected.v1_name}"),
        "maxAmountRequired": _fits(_AMOUNT, "is no number of atomic units"),
        "resource": _fits(_URL, "is no address"),
        "description": _TEXT,
        "mimeType": _TEXT,
        "extra": _is(dict(expected.domain), "is not the token's EIP-712 domain"),
    }

"""Headers that are no payment, or one payment spelled in many ways (A03, A32, A33)."""

import asyncio
import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import httpx
from eth_account.signers.local import LocalAccount

from tests.api.payments import (
    ANALYST,
    NAMES,
    ON_SQLITE,
    Payment,
    books,
    count,
    encode,
    offer_of,
    refusal_of,
    sign,
)
from tests.live import LiveServer

pytestmark = ON_SQLITE
V1, V2 = NAMES[1], NAMES[2]
MALFORMED = (400, "malformed_payment")


def base64(text: str) -> str:
    return b64encode(text.encode()).decode()


def nested(depth: int, inner: str) -> str:
    return '{"a":' * depth + inner + "}" * depth


def not_headers(good: Payment) -> dict[str, str]:
    """Texts that are no header of a payment, by what is wrong with them."""
    document = json.dumps(good.document)
    deep = good.saying("payload.more", json.loads(nested(100, "1")))
    return {
        "empty": "",
        "not base64": "%%%not base64%%%",
        "the alphabet of URLs": urlsafe_b64encode(b"\xfb\xff" * 9).decode(),
        "base64 without padding": base64(document + " ").rstrip("=")
        if len(document) % 3 != 2
        else base64(document).rstrip("="),
        "base64 with a space in it": encode(good.document)[:8]
        + " "
        + encode(good.document)[8:],
        "junk that decoders skip": encode(good.document)[:8]
        + "!"
        + encode(good.document)[8:],
        "plain JSON": document,
        "not JSON": base64("surely no JSON"),
        "cut off in the middle": base64(document[:-20]),
        "not UTF-8": b64encode(b'{"x402Version":2,"a":"\xff\xfe"}').decode(),
        "a list": base64(f"[{document}]"),
        "a string": base64(json.dumps(document)),
        "null": base64("null"),
        "no object within": base64("[]"),
        "a key twice": base64(document.replace("{", '{"x402Version":2,', 1)),
        "a key twice, deep inside": base64(
            document.replace('"value":', '"value":"1","value":', 1)
        ),
        "nested 100 deep": base64(nested(100, document)),
        "nested 100 deep beside a payment": encode(deep.document),
        "nested 100 000 deep": base64("[" * 5000),
        "NaN": base64(document.replace('"x402Version": 2', '"x402Version": NaN')),
        "a number of 4000 digits": base64(
            document.replace('"x402Version": 2', f'"x402Version": {"9" * 4000}')
        ),
        "more than 128 keys": encode(
            good.saying("more", {str(n): n for n in range(129)}).document
        ),
        "longer than 8 KiB": encode(good.saying("more", "x" * 8192).document),
    }


def not_payments(good: Payment) -> dict[str, Payment]:
    """Documents that are JSON and not one payment in canonical form."""
    signed = "payload.authorization."
    value, nonce = good.authorization["value"], good.authorization["nonce"]
    return {
        "no version": good.without("x402Version"),
        "version 3": good.saying("x402Version", 3),
        "version as text": good.saying("x402Version", "2"),
        "version true": good.saying("x402Version", value=True),
        "no accepted": good.without("accepted"),
        "accepted as text": good.saying("accepted", "exact"),
        "no payload": good.without("payload"),
        "payload as list": good.saying("payload", []),
        "no authorization": good.without("payload.authorization"),
        "no signature": good.without("payload.signature"),
        "signature as bytes": good.saying("payload.signature", [1, 2]),
        "signature without 0x": good.saying(
            "payload.signature", good.document["payload"]["signature"][2:]
        ),
        "signature with a space": good.saying(
            "payload.signature", good.document["payload"]["signature"] + " "
        ),
        "half a byte of signature": good.saying(
            "payload.signature", good.document["payload"]["signature"][:-1]
        ),
        "network in words": good.saying("accepted.network", "base sepolia"),
        "resource as text": good.saying("resource", "https://example.com"),
        "value as number": good.saying(signed + "value", int(value)),
        "value with a plus": good.saying(signed + "value", f"+{value}"),
        "value with a zero before": good.saying(signed + "value", f"0{value}"),
        "value with a space": good.saying(signed + "value", f" {value}"),
        "value with underscores": good.saying(signed + "value", "1_000_000"),
        "value in Arabic digits": good.saying(
            signed + "value", value.translate({48 + n: 0x660 + n for n in range(10)})
        ),
        "value in hexadecimal": good.saying(signed + "value", hex(int(value))),
        "value as fraction": good.saying(signed + "value", f"{value}.0"),
        "value with an exponent": good.saying(signed + "value", "1e6"),
        "negative value": good.saying(signed + "value", f"-{value}"),
        "no value": good.saying(signed + "value", ""),
        "value of 257 bits": good.saying(signed + "value", str(1 << 256)),
        "value of 10 000 digits": good.saying(signed + "value", "9" * 4000),
        "offered amount with a plus": good.saying("accepted.amount", f"+{value}"),
        "offered amount with a zero before": good.saying(
            "accepted.amount", f"0{value}"
        ),
        "nonce of 31 bytes": good.saying(signed + "nonce", nonce[:-2]),
        "nonce of 33 bytes": good.saying(signed + "nonce", nonce + "00"),
        "nonce with 0X": good.saying(signed + "nonce", "0X" + nonce[2:]),
        "nonce without 0x": good.saying(signed + "nonce", nonce[2:]),
        "payer of 19 bytes": good.saying(signed + "from", "0x" + "11" * 19),
        "payer by name": good.saying(signed + "from", "vitalik.eth"),
        "payee missing": good.without(signed + "to"),
        "window as number": good.saying(signed + "validBefore", 2_000_000_000),
        "window without end": good.without(signed + "validBefore"),
    }


async def answers(
    http: httpx.AsyncClient, headers: dict[str, Any]
) -> dict[str, tuple[int, str]]:
    """What each header gets, by name, at the route that it was made for."""
    found = {}
    for name, value in headers.items():
        answer = await http.get(ANALYST, headers=value)
        found[name] = refusal_of(answer)
    return found


async def test_what_is_no_header_of_a_payment_is_refused_and_leaves_no_trace(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    texts = not_headers(sign(wallet, await offer_of(http)))
    before = await books(attacked)
    for header in (V1, V2):
        found = await answers(
            http, {name: {header: one} for name, one in texts.items()}
        )
        assert found == dict.fromkeys(texts, MALFORMED)
    assert await books(attacked) == before


async def test_what_is_no_canonical_payment_is_refused_and_leaves_no_trace(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    spoiled = not_payments(sign(wallet, await offer_of(http)))
    before = await books(attacked)
    found = await answers(http, {name: one.headers for name, one in spoiled.items()})
    assert found == dict.fromkeys(spoiled, MALFORMED)
    assert await books(attacked) == before


async def test_no_refusal_repeats_what_was_sent(
    http: httpx.AsyncClient, wallet: LocalAccount
) -> None:
    good = sign(wallet, await offer_of(http))
    for one in (good.saying("x402Version", 3), good.saying("accepted.amount", "+1")):
        answer = await http.get(ANALYST, headers=one.headers)
        told = answer.text + str(answer.headers)
        assert answer.status_code == 400
        assert good.signature.hex() not in told
        assert good.authorization["nonce"][2:] not in told


async def test_both_payment_headers_at_once_are_refused(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    v2 = sign(wallet, await offer_of(http))
    v1 = sign(wallet, await offer_of(http, version=1))
    answer = await http.get(ANALYST, headers=v2.headers | v1.headers)
    assert refusal_of(answer) == MALFORMED
    assert await count(attacked, "claim") == 0


async def test_one_payment_header_twice_is_refused(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    for version in (1, 2):
        first = sign(wallet, await offer_of(http, version=version))
        second = sign(wallet, await offer_of(http, version=version))
        for other in (first, second):
            pairs = [*first.headers.items(), *other.headers.items()]
            answer = await http.get(ANALYST, headers=pairs)
            assert refusal_of(answer) == MALFORMED
    assert await count(attacked, "claim") == 0


async def test_a_payment_in_the_other_versions_header_is_refused(
    http: httpx.AsyncClient, wallet: LocalAccount
) -> None:
    v2 = sign(wallet, await offer_of(http))
    v1 = sign(wallet, await offer_of(http, version=1))
    for one, header in ((v2, V1), (v1, V2)):
        answer = await http.get(ANALYST, headers={header: encode(one.document)})
        assert refusal_of(answer) == MALFORMED


SPELLINGS: dict[str, Callable[[str], str]] = {
    "lower case": lambda text: text.lower(),
    "upper case": lambda text: "0x" + text[2:].upper(),
    "as it was": lambda text: text,
}


def spellings(good: Payment) -> list[Payment]:
    """The same authorization in every spelling that is allowed."""
    found = []
    for change in SPELLINGS.values():
        one = good.saying(
            "payload.signature", change(good.document["payload"]["signature"])
        )
        for name in ("from", "to", "nonce"):
            text = change(good.authorization[name])
            one = one.saying(f"payload.authorization.{name}", text)
        for name in ("asset", "payTo"):
            text = change(good.document["accepted"][name])
            one = one.saying(f"accepted.{name}", text)
        found.append(one)
    return found


async def test_other_spellings_of_a_payment_are_the_same_payment(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    request = {"json": {"pack": "pack_5"}}
    entry = await offer_of(http, "/api/credits/add", method="POST", **request)
    sent = spellings(sign(wallet, entry))
    answers_ = await asyncio.gather(
        *(
            http.post("/api/credits/add", headers=one.headers, **request)
            for one in sent * 3
        )
    )
    assert [one.status_code for one in answers_] == [200] * 9
    assert len({one.json()["topup"]["id"] for one in answers_}) == 1
    assert await count(attacked, "claim") == 1
    assert await count(attacked, "relayed_transaction") == 1


async def test_a_payment_in_lower_case_or_upper_case_is_taken(
    http: httpx.AsyncClient, wallet: LocalAccount
) -> None:
    remaining = []
    for number in range(len(SPELLINGS)):
        one = spellings(sign(wallet, await offer_of(http)))[number]
        answer = await http.get(ANALYST, headers=one.headers)
        assert answer.status_code == 200, answer.text
        remaining.append(answer.headers["credits-remaining"])
    assert remaining == ["9", "8", "7"]


async def test_a_payment_spelled_otherwise_is_a_copy_and_not_served_again(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    first, *others = spellings(sign(wallet, await offer_of(http)))
    assert (await http.get(ANALYST, headers=first.headers)).status_code == 200
    for one in others:
        answer = await http.get(ANALYST, headers=one.headers)
        assert refusal_of(answer) == (409, "payment_already_settled")
    assert await count(attacked, "ledger_transaction", "kind = 'charge'") == 1

"""A server that runs, seen from outside: its address, its 402 and what browsers get."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from tallystick.catalog.examples import example_arguments
from tallystick.catalog.models import Catalog, Feature
from tallystick.doctor.findings import Examination
from tallystick.doctor.offers import (
    Expected,
    disagreements,
    faults_of_v1,
    faults_of_v2,
    read_offer,
)

_SECONDS = 10
_ORIGIN = "https://doctor.invalid"
_NOT_NOW = "top_ups_unavailable"
"""A browser's page somewhere else; it must be let in, and never with credentials."""
_SENT = ("payment-signature", "x-payment", "sign-in-with-x", "idempotency-key")
_READ = ("payment-required", "payment-response", "x-payment-response")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Visit:
    """Whom to ask, and what should be found there.

    ``base`` is where to ask: what clients are told may be out of reach from this
    machine. Without ``takes_payments`` nothing is offered.
    """

    base: str
    takes_payments: bool
    catalog: Catalog | None
    expected: Expected | None


def examine_public_url(exam: Examination, public_url: str, *, is_test: bool) -> None:
    """Whether clients could use the address that offers and sign-ins name."""
    parts = urlsplit(public_url)
    if parts.hostname in _LOOPBACK:
        said = f"PUBLIC_URL {public_url} is reached from this machine only"
        tell = exam.warn if is_test else exam.problem
        tell("public url", said, "Set PUBLIC_URL to the address that clients use.")
    elif parts.scheme != "https":
        said = f"PUBLIC_URL {public_url} is not https"
        step = "Put a proxy with TLS before the server and set PUBLIC_URL to it."
        exam.problem("public url", said, step)
    else:
        exam.ok("public url", f"offers and sign-ins name {public_url}")


async def examine_server(exam: Examination, visit: Visit) -> None:
    """Everything that a client of the running server sees."""
    exam.looking(f"the server at {urlsplit(visit.base).netloc.rpartition('@')[2]}")
    try:
        async with httpx.AsyncClient(
            base_url=visit.base, timeout=_SECONDS, headers={"Origin": _ORIGIN}
        ) as http:
            if await _answers(exam, http):
                await _examine_answers(exam, http, visit)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        step = "Look at the server's log, and at the proxy's before it."
        exam.problem("server", f"it broke off ({type(error).__name__})", step)
    except OSError as error:
        said = f"nobody can be asked: TLS is not set up ({type(error).__name__})"
        exam.problem("server", said, "Correct or unset SSL_CERT_FILE.")


async def _examine_answers(
    exam: Examination, http: httpx.AsyncClient, visit: Visit
) -> None:
    await _examine_readiness(exam, http)
    await _examine_catalog(exam, http, visit.catalog)
    await _examine_preflight(exam, http)
    for what, request in _priced(visit):
        exam.looking(what)
        await _examine_challenge(exam, visit, what, await http.send(request))


async def _answers(exam: Examination, http: httpx.AsyncClient) -> bool:
    try:
        alive = await http.get("/livez")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        said = f"nobody answers there ({type(error).__name__})"
        step = (
            "Start it with `tallystick serve`, or look at DNS, the proxy and its"
            " certificate. `--url` asks at another address, `--no-server` asks nobody."
        )
        exam.problem("server", said, step)
        return False
    if alive.status_code == 200:
        exam.ok("server", "it answers")
        return True
    said = f"/livez is answered with {alive.status_code}"
    step = "Another program listens there, or a proxy does not pass the request on."
    if alive.is_redirect:
        step = "Clients lose payments on the way: set PUBLIC_URL to where it leads."
    exam.problem("server", said, step)
    return False


async def _examine_readiness(exam: Examination, http: httpx.AsyncClient) -> None:
    ready = _json(await http.get("/readyz"))
    if not ready.get("ready"):
        exam.problem("server", "it is not ready", "Look at its database and its log.")
    elif not ready.get("takes_payments"):
        said = f"it takes no payments now: {str(ready.get('reason'))[:200]}"
        exam.warn(
            "server", said, "Mend what the other lines name; it goes on by itself."
        )
    elif limited := ready.get("limited"):
        said = f"it takes only some payments now: {str(limited)[:200]}"
        exam.warn("server", said, "Mend what it names; it goes on by itself.")
    else:
        exam.ok("server", "it takes payments")


async def _examine_catalog(
    exam: Examination, http: httpx.AsyncClient, catalog: Catalog | None
) -> None:
    version = _json(await http.get("/api/catalog")).get("version")
    if catalog is None or version == catalog.version:
        exam.ok("server", "it has this catalog")
        return
    said = "it runs with another catalog than these settings name"
    exam.warn("server", said, "Restart it, or ask with the settings that it has.")


async def _examine_preflight(exam: Examination, http: httpx.AsyncClient) -> None:
    answer = await http.options(
        "/api/credits/add",
        headers={
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": ", ".join(_SENT),
        },
    )
    allowed = _names(answer, "access-control-allow-headers")
    missing = [] if "*" in allowed else [one for one in _SENT if one not in allowed]
    if not _lets_in(answer) or missing:
        what = ", ".join(missing) or "anything"
        said = f"a browser on another site may not send {what}"
        step = "Allow it in the CORS policy of the app, or of the proxy before it."
        exam.warn("browsers", said, step)
    else:
        exam.ok("browsers", "they may send payments, sign-ins and keys")
    if answer.headers.get("access-control-allow-credentials") == "true":
        said = "any site may send the cookies of its visitors"
        exam.problem("browsers", said, "Forbid credentials in the CORS policy.")


def _lets_in(answer: httpx.Response) -> bool:
    return answer.headers.get("access-control-allow-origin") in {"*", _ORIGIN}


def _priced(visit: Visit) -> Iterator[tuple[str, httpx.Request]]:
    """An unpaid request for each thing that the catalog sells here."""
    if visit.catalog is None or visit.expected is None or not visit.takes_payments:
        return
    base, headers = visit.base, {"Origin": _ORIGIN}
    packs = visit.catalog.packs
    dollars = visit.catalog.topup.auto_topup_usd
    wanted = {"pack": packs[0].id} if packs else {"amount": str(dollars)}
    add = f"{base}/api/credits/add"
    yield (
        "POST /api/credits/add",
        httpx.Request("POST", add, json=wanted, headers=headers),
    )
    for feature in visit.catalog.features:
        arguments = example_arguments(feature)
        if feature.handler is None or not feature.price or arguments is None:
            continue  # free, or served elsewhere, or nobody knows what it takes
        for method in feature.methods:
            yield _asking(base, feature, method, arguments)


def _asking(
    base: str, feature: Feature, method: str, arguments: dict[str, Any]
) -> tuple[str, httpx.Request]:
    path = f"/features/{feature.slug}"
    what, headers = f"{method} {path}", {"Origin": _ORIGIN}
    if method not in {"GET", "DELETE"}:
        return what, httpx.Request(method, base + path, json=arguments, headers=headers)
    told = {
        name: ",".join(value) if isinstance(value, list) else str(value)
        for name, value in arguments.items()
    }
    return what, httpx.Request(method, base + path, params=told, headers=headers)


async def _examine_challenge(
    exam: Examination, visit: Visit, what: str, answer: httpx.Response
) -> None:
    assert visit.expected is not None, "what is sold is known with what is expected"
    if answer.status_code == 503 and _json(answer).get("code") == _NOT_NOW:
        said = f"{what} offers nothing, because no payment can be settled now"
        exam.warn("challenge", said, "Ask again once it takes payments.")
        return
    if answer.status_code != 402:
        said = f"{what} is answered with {answer.status_code} instead of 402"
        exam.problem("challenge", said, "Look at the answer and at the server's log.")
        return
    faults = list(_faults(answer, visit.expected))
    step = "Nothing may change answers on their way; if nothing does, tell us of it."
    for fault in faults:
        exam.problem("challenge", f"{what}: {fault}", step)
    exposed = _names(answer, "access-control-expose-headers")
    hidden = [one for one in _READ if one not in exposed]
    if not _lets_in(answer) or hidden:
        said = f"{what}: a browser may not read {', '.join(hidden) or 'the answer'}"
        step = "Expose it in the CORS policy of the app, or of the proxy before it."
        exam.warn("browsers", said, step)
    if not faults:
        exam.ok("challenge", f"{what} is a 402 for clients of both versions")


def _faults(answer: httpx.Response, expected: Expected) -> Iterator[str]:
    if "no-store" not in answer.headers.get("cache-control", ""):
        yield "caches may keep it (no Cache-Control: no-store)"
    body = _json(answer)
    yield from faults_of_v1(body, expected)
    header = answer.headers.get("payment-required")
    if header is None:
        yield "it has no PAYMENT-REQUIRED header"
        return
    try:
        offer = read_offer(header)
    except ValueError as error:
        yield f"PAYMENT-REQUIRED {error}"
        return
    yield from faults_of_v2(offer, expected)
    if isinstance(offer, dict):
        yield from disagreements(offer, body)


def _names(answer: httpx.Response, header: str) -> set[str]:
    told = answer.headers.get(header, "").split(",")
    return {one.strip().lower() for one in told}


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}

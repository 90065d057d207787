"""A facilitator over HTTP: asked once at a time, bounded in time and size.

The SDK's client raises on every status but 200 and follows redirects, so what a
facilitator says in an HTTP 500 is lost and its answers may lead elsewhere. This one
reads every answer, and goes nowhere but to the address that the operator has set.
"""

import asyncio
import json
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from tallystick.kernel.clock import Clock
from tallystick.x402.cdp_key import CdpKey
from tallystick.x402.settle_wire import (
    AnswerKind,
    SettleAnswer,
    SettleRequest,
    Supported,
    read_settle_answer,
    read_supported,
)
from tallystick.x402.wire import Version

MOST_BYTES: Final = 64 * 1024
"""Of an answer. The largest honest one lists what Coinbase supports, some 10 KiB."""
_HEADERS: Final = {
    "Accept": "application/json",
    # What is compressed may be huge when it is unpacked.
    "Accept-Encoding": "identity",
    "User-Agent": "tallystick",
}
_SUPPORTED_SECONDS: Final = 5.0
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
# Of these nothing can have reached the facilitator.
_UNSENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class FacilitatorSilent(Exception):
    """``GET /supported`` brought nothing that can be read; the words say why."""


class AnswerTooLarge(Exception):
    """The answer is longer than any honest one."""


def is_facilitator_url(text: str) -> bool:
    """Whether payments may be sent there: https, or this machine, and no login in it."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    is_bare = not (parts.query or parts.fragment or "@" in parts.netloc) and port != 0
    is_safe = parts.scheme == "https" or parts.hostname in _LOOPBACK
    is_web = parts.scheme in {"http", "https"} and bool(parts.hostname)
    return is_web and is_bare and is_safe


class FacilitatorClient:
    """One facilitator's address; belongs to the event loop that first uses it.

    ``answer_seconds`` bounds a whole settlement exchange, so that one that drips is as
    good as one that is silent.
    """

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        key: CdpKey | None = None,
        answer_seconds: float = 15.0,
    ) -> None:
        assert is_facilitator_url(url), "the settings were checked"
        self._url = url.rstrip("/")
        self._clock = clock
        self._key = key
        self._answer_seconds = answer_seconds
        self._http: httpx.AsyncClient | None = None

    @property
    def host(self) -> str:
        """The part of the address that may be shown."""
        return urlsplit(self._url).netloc

    async def close(self) -> None:
        """Close the connections."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def settle(self, request: SettleRequest, version: Version) -> SettleAnswer:
        """Ask for a settlement; never raises, since no outcome of this is a fact."""
        body = json.dumps(request.document(version), separators=(",", ":")).encode()
        try:
            status, said = await self._exchange("POST", "/settle", body)
        except _UNSENT as error:
            return SettleAnswer(AnswerKind.UNREACHABLE, None, type(error).__name__)
        except (httpx.HTTPError, TimeoutError, AnswerTooLarge, OSError) as error:
            return SettleAnswer(AnswerKind.UNCLEAR, None, type(error).__name__)
        return read_settle_answer(status, said, request)

    async def supported(self, network: str) -> Supported:
        """What it settles. Raises ``FacilitatorSilent``."""
        try:
            async with asyncio.timeout(_SUPPORTED_SECONDS):
                status, said = await self._exchange("GET", "/supported", None)
        except (httpx.HTTPError, TimeoutError, AnswerTooLarge, OSError) as error:
            raise FacilitatorSilent(f"no answer ({type(error).__name__})") from None
        found = read_supported(said, network) if status == 200 else None
        if found is None:
            raise FacilitatorSilent(f"HTTP {status} without a list of kinds")
        return found

    async def _exchange(
        self, method: str, path: str, content: bytes | None
    ) -> tuple[int, bytes]:
        url = self._url + path
        headers = self._headers(method, url)
        if content is not None:
            headers["Content-Type"] = "application/json"
        said = bytearray()
        async with (
            asyncio.timeout(self._answer_seconds),
            self._opened().stream(
                method, url, content=content, headers=headers
            ) as answer,
        ):
            async for chunk in answer.aiter_raw():
                said += chunk
                if len(said) > MOST_BYTES:
                    raise AnswerTooLarge
        return answer.status_code, bytes(said)

    def _headers(self, method: str, url: str) -> dict[str, Any]:
        if self._key is None:
            return {}
        parts = urlsplit(url)
        now = self._clock.now_ms() // 1000
        bearer = self._key.bearer(method, parts.netloc, parts.path, now)
        return {"Authorization": bearer}

    def _opened(self) -> httpx.AsyncClient:
        if self._http is None:
            self._http = httpx.AsyncClient(
                headers=_HEADERS,
                timeout=self._answer_seconds,
                follow_redirects=False,
                # Neither proxies nor logins that somebody left in the environment.
                trust_env=False,
            )
        return self._http

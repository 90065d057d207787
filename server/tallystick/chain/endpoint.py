"""One node: one question, one answer, no second thoughts.

web3's own HTTP provider repeats requests behind our back (five times, with pauses),
opens a connection for each, passes each through a thread, reads answers of any size
and throws away the body of an HTTP error, where many nodes put their reason. So this
one takes its place under the same ``AsyncWeb3``.
"""

import json
from typing import Any, cast
from urllib.parse import urlsplit

from aiohttp import ClientSession, ClientTimeout, TCPConnector
from web3 import AsyncHTTPProvider
from web3.types import RPCEndpoint, RPCResponse

from tallystick.chain.hexadecimal import Garbage

ANSWER_LIMIT_BYTES = 16 * 1024 * 1024
# Shorter than any common server's, so that we never write to a closing connection.
_KEEPALIVE_SECONDS = 4
_HEADERS = {"Content-Type": "application/json", "User-Agent": "tallystick"}


class AnswerTooLarge(ValueError):
    """The node sends more than we are ready to read."""


class Endpoint(AsyncHTTPProvider):
    """A node's HTTP URL; belongs to the event loop that first uses it."""

    def __init__(self, url: str) -> None:
        super().__init__(
            url, exception_retry_configuration=None, cache_allowed_requests=False
        )
        self.url = url
        self._session: ClientSession | None = None

    @property
    def host(self) -> str:
        """The part of the URL that may be shown: paths and logins hold keys."""
        return urlsplit(self.url).hostname or "?"

    async def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Ask once. Raises ``OSError``, ``ClientError``, ``Garbage``, ``AnswerTooLarge``.

        The caller bounds the time.
        """
        request = self.form_request(method, params)
        body = self.encode_rpc_dict(request)
        async with self._opened().post(
            self.url, data=body, headers=_HEADERS, allow_redirects=False
        ) as response:
            text = bytearray()
            async for chunk in response.content.iter_any():
                text += chunk
                if len(text) > ANSWER_LIMIT_BYTES:
                    raise AnswerTooLarge
            return _read_answer(response.status, bytes(text), request["id"])

    async def disconnect(self) -> None:
        """Close the connections; the next request would open new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> ClientSession:
        if self._session is None:
            self._session = ClientSession(
                connector=TCPConnector(keepalive_timeout=_KEEPALIVE_SECONDS),
                timeout=ClientTimeout(total=None),
            )
        return self._session


def _read_answer(http_status: int, text: bytes, request_id: Any) -> RPCResponse:
    """The JSON-RPC answer; an overloaded or broken node (429, 5xx) gave none."""
    if http_status == 429 or http_status >= 500:
        raise Garbage(f"HTTP {http_status}")
    if http_status == 413:
        raise AnswerTooLarge
    try:
        answer: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Garbage(f"HTTP {http_status} without JSON") from error
    if not isinstance(answer, dict) or answer.get("id") not in (request_id, None):
        raise Garbage(f"HTTP {http_status} without an answer to our question")
    if answer.get("error", ...) is None:
        del answer["error"]  # some nodes send it beside a result
    if http_status != 200 and "error" not in answer:
        raise Garbage(f"HTTP {http_status}")
    return cast("RPCResponse", answer)

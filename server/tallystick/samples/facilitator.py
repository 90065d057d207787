"""A facilitator of one's own on a local chain, which misbehaves to order.

For the demo, for tests and for trying things. It checks and settles for real, with its
own key; ``lies`` makes it treat a payer as broken and malicious facilitators have
treated theirs (reports of 2026 name most of them).
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from tallystick.chain.logs import receipt
from tallystick.chain.relay import (
    broadcast,
    estimate_gas,
    fees,
    settlement_call,
    sign_transaction,
    simulate,
)
from tallystick.chain.rpc import Chain
from tallystick.x402.fields import (
    FieldRefused,
    address,
    bytes32,
    hex_bytes,
    member,
    uint256,
)
from tallystick.x402.keccak import checksum_address
from tallystick.x402.networks import NETWORKS
from tallystick.x402.wire import EXACT, Authorization

_HUGE_BYTES = 4 * 1024 * 1024
_LOOK_SECONDS = 0.02
_LOOKS = 500


class Lie(StrEnum):
    """What it does instead of telling the truth. Some settle, some do not."""

    NO_TRANSACTION = "success without a transaction"
    RANDOM_HASH = "success with a hash that nobody has seen"
    OTHERS_HASH = "success with the hash of another's payment"
    FAILED_THOUGH_SETTLED = "failure although it has settled"
    BAD_GATEWAY = "settles, then 502"
    SETTLES_AND_HANGS = "settles and never answers"
    HANGS = "never answers"
    PENDING_IN_500 = "settles and says pending in an HTTP 500"
    PENDING_FOR_EVER = "says pending in a 202 and does nothing"
    PENDING_IN_200 = "settles and says settlement_pending in a 200"
    WRONG_PAYER = "settles and names another payer"
    WRONG_AMOUNT = "settles and names another amount"
    VALID_THEN_FAILS = "says valid, then will not settle"
    PAYMENT_REQUIRED = "answers 402 again and again"
    GARBAGE = "bytes that are no text"
    HTML = "a page for people"
    REDIRECT = "sends the asker elsewhere"
    HUGE = "four megabytes"
    DRIP = "a byte now and then"


SETTLING = frozenset(
    {
        Lie.FAILED_THOUGH_SETTLED,
        Lie.BAD_GATEWAY,
        Lie.SETTLES_AND_HANGS,
        Lie.PENDING_IN_500,
        Lie.PENDING_IN_200,
        Lie.WRONG_PAYER,
        Lie.WRONG_AMOUNT,
    }
)
"""These move the money all the same."""


@dataclass
class SampleFacilitator:
    """``app`` is the ASGI application; ``asked`` counts requests to settle.

    ``lies`` are by payer's address; ``redirect_to`` is where Lie.REDIRECT points;
    ``delay_seconds`` is how long it keeps an answer to itself.
    """

    chain: Chain
    network: str
    key: bytes = field(repr=False)
    signer: bytes
    names_signers: bool = True
    versions: tuple[int, ...] = (2, 1)
    lies: dict[bytes, Lie] = field(default_factory=dict)
    delay_seconds: float = 0.0
    redirect_to: str = "http://127.0.0.1:9/"
    asked: list[dict[str, Any]] = field(default_factory=list)
    settled: dict[tuple[bytes, bytes], bytes] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/supported", self._supported),
                Route("/verify", self._verify, methods=["POST"]),
                Route("/settle", self._settle, methods=["POST"]),
            ]
        )

    async def _supported(self, request: Request) -> Response:
        names = {1: NETWORKS[self.network].v1_name, 2: self.network}
        kinds = [
            {"x402Version": one, "scheme": EXACT, "network": names[one]}
            for one in self.versions
        ]
        signer = checksum_address(self.signer)
        signers = {"eip155:*": [signer]} if self.names_signers else {}
        return JSONResponse({"kinds": kinds, "extensions": [], "signers": signers})

    async def _verify(self, request: Request) -> Response:
        try:
            signed, signature, _ = _read(await request.json())
        except (FieldRefused, ValueError):
            return JSONResponse({"error": "invalid_request"}, 400)
        verdict = await simulate(self.chain, signed, signature, self.signer)
        payer = checksum_address(signed.payer)
        if verdict.refusal is None:
            return JSONResponse({"isValid": True, "payer": payer})
        answer = {"isValid": False, "invalidReason": verdict.refusal, "payer": payer}
        return JSONResponse(answer)

    async def _settle(self, request: Request) -> Response:
        asked = await request.json()
        self.asked.append(asked)
        try:
            signed, signature, network = _read(asked)
        except (FieldRefused, ValueError):
            return JSONResponse({"error": "invalid_request"}, 400)
        lie = self.lies.get(signed.payer)
        tx_hash = None
        if lie is None or lie in SETTLING:
            tx_hash = await self._capture(signed, signature)
        await asyncio.sleep(self.delay_seconds)
        truth = {
            "success": tx_hash is not None,
            "transaction": f"0x{tx_hash.hex()}" if tx_hash else "",
            "network": network,
            "payer": checksum_address(signed.payer),
        }
        if tx_hash is None:
            truth["errorReason"] = "invalid_transaction_state"
        return JSONResponse(truth) if lie is None else await self._tell(lie, truth)

    async def _capture(self, signed: Authorization, signature: bytes) -> bytes | None:
        """The transaction that settled it, now or when it was asked before."""
        key = (signed.payer, signed.nonce)
        async with self._turn:
            if key in self.settled:
                return self.settled[key]
            verdict = await simulate(self.chain, signed, signature, self.signer)
            if verdict.refusal is not None:
                return None
            sent = sign_transaction(
                self.chain,
                self.key,
                await self.chain.nonce(self.signer, "pending"),
                settlement_call(signed, signature),
                gas=await estimate_gas(self.chain, signed, signature, self.signer),
                fees=await fees(self.chain),
            )
            await broadcast(self.chain, sent.raw)
            if await self._is_mined(sent.hash):
                self.settled[key] = sent.hash
        return self.settled.get(key)

    async def _is_mined(self, tx_hash: bytes) -> bool:
        for _ in range(_LOOKS):
            mined = await receipt(self.chain, tx_hash)
            if mined is not None:
                return mined.succeeded
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    async def _tell(self, lie: Lie, truth: dict[str, Any]) -> Response:
        told = self._told(lie, truth)
        if told is not None:
            body, status = told
            return JSONResponse(body, status)
        if lie in {Lie.HANGS, Lie.SETTLES_AND_HANGS}:
            await asyncio.sleep(3600)
        return {
            Lie.GARBAGE: Response(b"\xff\x00\xfe{" * 9, media_type="application/json"),
            Lie.HTML: HTMLResponse("<h1>It works!</h1>"),
            Lie.REDIRECT: RedirectResponse(self.redirect_to, 307),
            Lie.HUGE: Response(_huge(truth), media_type="application/json"),
            Lie.DRIP: StreamingResponse(_drip(), media_type="application/json"),
        }.get(lie, Response(b"", 502))

    def _told(
        self, lie: Lie, truth: dict[str, Any]
    ) -> tuple[dict[str, Any], int] | None:
        yes = truth | {"success": True}
        no = truth | {"success": False, "transaction": ""}
        other = next(iter(self.settled.values()), secrets.token_bytes(32))
        pending = truth | {"success": False, "errorReason": "settlement_pending"}
        return {
            Lie.NO_TRANSACTION: (yes | {"transaction": ""}, 200),
            Lie.RANDOM_HASH: (
                yes | {"transaction": _hex(secrets.token_bytes(32))},
                200,
            ),
            Lie.OTHERS_HASH: (yes | {"transaction": _hex(other)}, 200),
            Lie.FAILED_THOUGH_SETTLED: (no | {"errorReason": "unexpected_error"}, 200),
            Lie.PENDING_IN_500: (pending, 500),
            Lie.PENDING_IN_200: (pending, 200),
            Lie.PENDING_FOR_EVER: ({"status": "pending"}, 202),
            Lie.WRONG_PAYER: (yes | {"payer": "0x" + "ab" * 20}, 200),
            Lie.WRONG_AMOUNT: (yes | {"amount": "1"}, 200),
            Lie.VALID_THEN_FAILS: (no | {"errorReason": "insufficient_funds"}, 200),
            Lie.PAYMENT_REQUIRED: (no | {"errorReason": "payment_required"}, 402),
        }.get(lie)


def _read(asked: Any) -> tuple[Authorization, bytes, str]:
    if not isinstance(asked, dict):
        raise FieldRefused("body", "must be an object")
    payload = member(asked, "paymentPayload", dict)
    wanted = member(asked, "paymentRequirements", dict)
    proof = member(payload, "payload", dict)
    told = member(proof, "authorization", dict)
    signed = Authorization(
        payer=address(told, "from"),
        pay_to=address(told, "to"),
        value=uint256(told, "value"),
        valid_after=uint256(told, "validAfter"),
        valid_before=uint256(told, "validBefore"),
        nonce=bytes32(told, "nonce"),
    )
    amount = "maxAmountRequired" if asked.get("x402Version") == 1 else "amount"
    if (address(wanted, "payTo"), uint256(wanted, amount)) != (
        signed.pay_to,
        signed.value,
    ):
        raise FieldRefused("paymentRequirements", "are not what was signed")
    return signed, hex_bytes(proof, "signature"), member(wanted, "network", str)


def _huge(truth: dict[str, Any]) -> bytes:
    return json.dumps(truth | {"extra": "x" * _HUGE_BYTES}).encode()


async def _drip() -> AsyncIterator[bytes]:
    yield b"{"
    while True:
        await asyncio.sleep(0.2)
        yield b" "


def _hex(raw: bytes) -> str:
    return f"0x{raw.hex()}"

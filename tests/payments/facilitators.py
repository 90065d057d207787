"""Facilitators on real HTTP ports: our sample, the SDK's own, and plain sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import jwt
import uvicorn
from eth_account import Account
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from x402.mechanisms.evm import FacilitatorWeb3Signer
from x402.mechanisms.evm.exact import register_exact_evm_facilitator
from x402.schemas import PaymentPayload, PaymentRequirements
from x402.schemas.v1 import PaymentPayloadV1, PaymentRequirementsV1

from tallystick.chain.local import KEYS, LocalChain
from tallystick.kernel.clock import SystemClock
from tallystick.payments.desk import Desk
from tallystick.samples.facilitator import SampleFacilitator
from tallystick.x402.facilitator import FacilitatorClient
from tests.chain.payer import address_of
from x402 import x402FacilitatorSync

NETWORK = "eip155:84532"
KEY_ID = "11111111-2222-3333-4444-555555555555"


class OnlyWithToken:
    """As Coinbase's does, it asks for a token for each request, signed by the key."""

    def __init__(self, app: ASGIApp, public: Any) -> None:
        self.app = app
        self.public = public
        self.tokens: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        word, _, token = request.headers.get("authorization", "").partition(" ")
        answer: ASGIApp = JSONResponse({"errorType": "unauthorized"}, 401)
        if word == "Bearer" and self._is_good(token, request):
            answer = self.app
        await answer(scope, receive, send)

    def _is_good(self, token: str, request: Request) -> bool:
        claims = jwt.decode(token, self.public, algorithms=["EdDSA"], issuer="cdp")
        uri = f"{request.method} {request.url.netloc}{request.url.path}"
        is_new = token not in self.tokens
        self.tokens.append(token)
        return bool(is_new and claims["uris"] == [uri] and claims["sub"] == KEY_ID)


async def eventually(is_so: Callable[[], object]) -> None:
    for _ in range(1000):
        if is_so():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never is")


@dataclass
class Listening:
    """A facilitator that can be switched off and on; its port stays."""

    app: Any
    port: int = 0
    _server: uvicorn.Server | None = None
    _task: "asyncio.Task[None] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def up(self) -> None:
        config = uvicorn.Config(
            self.app, port=self.port, log_config=None, lifespan="off"
        )
        config.timeout_graceful_shutdown = 0
        self._server = uvicorn.Server(config)
        self._task = asyncio.create_task(self._server.serve())
        server = self._server
        await eventually(lambda: server.started)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    async def down(self) -> None:
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task
        self._server = None


@contextlib.asynccontextmanager
async def listening(app: Any) -> AsyncIterator[Listening]:
    one = Listening(app)
    await one.up()
    try:
        yield one
    finally:
        await one.down()


@contextlib.asynccontextmanager
async def sample(local: LocalChain, **more: Any) -> AsyncIterator[SampleFacilitator]:
    """Our own, with a key of its own; where it listens is its ``redirect_to``."""
    chain = local.open_chain()
    key = KEYS[4]
    one = SampleFacilitator(
        chain=chain, network=NETWORK, key=key, signer=address_of(key), **more
    )
    try:
        yield one
    finally:
        await chain.close()


def desk_at(url: str, *, answer_seconds: float = 1.0, **more: Any) -> Desk:
    """One that is soon out of patience."""
    client = FacilitatorClient(url, SystemClock(), answer_seconds=answer_seconds)
    values: dict[str, Any] = {"patience_seconds": 0.4}
    return Desk(client, NETWORK, "http://shop.test", **values | more)


def sdk_app(rpc_url: str) -> Starlette:
    """The Python SDK's facilitator, as its examples serve it."""
    key = Account.from_key(KEYS[5]).key.hex()
    signer = FacilitatorWeb3Signer(private_key=key, rpc_url=rpc_url)
    facilitator = x402FacilitatorSync()
    register_exact_evm_facilitator(facilitator, signer, networks=NETWORK)

    async def supported(request: Request) -> Response:
        return JSONResponse(told(facilitator.get_supported()))

    async def settle(request: Request) -> Response:
        asked = await request.json()
        v1 = asked["x402Version"] == 1
        payload: Any = PaymentPayloadV1 if v1 else PaymentPayload
        wanted: Any = PaymentRequirementsV1 if v1 else PaymentRequirements
        result = await asyncio.to_thread(
            facilitator.settle,
            payload.model_validate(asked["paymentPayload"]),
            wanted.model_validate(asked["paymentRequirements"]),
        )
        return JSONResponse(told(result))

    def told(model: Any) -> Any:
        return model.model_dump(by_alias=True, exclude_none=True)

    return Starlette(
        routes=[
            Route("/supported", supported),
            Route("/settle", settle, methods=["POST"]),
        ]
    )

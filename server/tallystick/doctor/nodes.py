"""Each node by itself: a second one must not hide that the first has failed."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from tallystick.chain import abi
from tallystick.chain.errors import RpcErrorAnswer, RpcUnavailable
from tallystick.chain.logs import logs_between, logs_in_block
from tallystick.chain.rpc import Block, Chain
from tallystick.doctor.findings import Examination

_LOG_BLOCKS = 1_000
"""So far back a server that was down for half an hour reads at once on Base."""
_LAG_BLOCKS = 15
_OLD_SECONDS = 30
_TOO_OLD_SECONDS = 120
_AHEAD_SECONDS = 5
_QUOTA = "Check its URL, its key and its quota, or name another node in RPC_URLS."


@dataclass(frozen=True, slots=True)
class Token:
    """What is paid in, and to whom as far as that is known; addresses are 20 bytes."""

    chain_id: int
    address: bytes
    pay_to: bytes | None
    is_test: bool


@dataclass(frozen=True, slots=True)
class _Seen:
    name: str
    url: str
    head: Block


@asynccontextmanager
async def examine_nodes(
    exam: Examination, urls: tuple[str, ...], token: Token
) -> AsyncIterator[Chain | None]:
    """Look at every node; the chain by the best of them, None when none is of use."""
    seen = [
        found
        for number, url in enumerate(urls, 1)
        if (found := await _examine_one(exam, number, url, token)) is not None
    ]
    if not seen:
        yield None
        return
    best = max(seen, key=lambda one: one.head.number)
    for one in seen:
        behind = best.head.number - one.head.number
        if behind > _LAG_BLOCKS:
            said = f"{one.name} is {behind} blocks behind {best.name}"
            exam.warn("rpc", said, "Wait until it is in sync, or name another node.")
    _examine_clock(exam, best.head, is_test=token.is_test)
    chain = Chain([best.url], chain_id=token.chain_id, token=token.address)
    try:
        yield chain
    finally:
        await chain.close()


async def _examine_one(
    exam: Examination, number: int, url: str, token: Token
) -> _Seen | None:
    # Only the host is shown: a path or a query may hold a key.
    name = f"node {number} ({urlsplit(url).hostname})"
    exam.looking(name)
    chain = Chain([url], chain_id=token.chain_id, token=token.address)
    try:
        found = await chain.chain_id()
        if found != token.chain_id:
            said = f"{name} is a node of chain {found}, not of {token.chain_id}"
            exam.problem("rpc", said, "Correct NETWORK or RPC_URLS.")
            return None
        head = await chain.block("latest")
        if head is None:
            exam.problem("rpc", f"{name} names no newest block", _QUOTA)
            return None
        exam.ok("rpc", f"{name} answers, chain {found}, block {head.number}")
        await _examine_finality(exam, chain, name)
        await _examine_logs(exam, chain, name, head, token)
        return _Seen(name, url, head)
    except (RpcUnavailable, RpcErrorAnswer) as error:
        exam.problem("rpc", f"{name}: {error.detail}", _QUOTA)
        return None
    finally:
        await chain.close()


async def _examine_finality(exam: Examination, chain: Chain, name: str) -> None:
    try:
        final = await chain.block("finalized")
    except RpcErrorAnswer:
        final = None
    if final is None:
        said = f"{name} names no finalized block"
        step = "Without one no payment becomes final: name a node that knows finality."
        exam.warn("rpc", said, step)
    else:
        exam.ok("rpc", f"{name} has finalized block {final.number}")


async def _examine_logs(
    exam: Examination, chain: Chain, name: str, head: Block, token: Token
) -> None:
    payee = None if token.pay_to is None else abi.word(token.pay_to)
    topics = [abi.TRANSFER, None, payee]
    try:
        await logs_in_block(chain, head.hash, topics)
        await logs_between(
            chain, topics, max(head.number - _LOG_BLOCKS, 0), head.number
        )
    except (RpcUnavailable, RpcErrorAnswer) as error:
        said = f"{name} serves no logs: {error.detail}"
        step = "No payment would be found: name a node that serves eth_getLogs."
        exam.problem("rpc", said, step)
    else:
        exam.ok("rpc", f"{name} serves logs, by block and by range")


def _examine_clock(exam: Examination, head: Block, *, is_test: bool) -> None:
    """Windows of payments are judged by both clocks, so they must agree."""
    age = int(time.time()) - head.timestamp_seconds
    if age < -_AHEAD_SECONDS:
        said = f"this machine's clock is at least {-age} s behind the newest block"
        exam.problem("clock", said, "Let NTP set this machine's clock.")
        return
    if age <= _OLD_SECONDS:
        exam.ok("clock", f"the newest block is {max(age, 0)} s old by this machine")
        return
    said = f"the newest block is {age} s old by this machine's clock"
    step = "The clock is ahead (let NTP set it) or the nodes are behind."
    if is_test or age <= _TOO_OLD_SECONDS:
        hint = " A local chain that mines only on demand looks like that, too."
        exam.warn("clock", said, step + (hint if is_test else ""))
    else:
        exam.problem("clock", said, step)

"""Recent transfers of a token, and whether their receivers could pass it on."""

from dataclasses import dataclass

from tallystick.chain.abi import TRANSFER, selector, word
from tallystick.chain.errors import BlockNotSeen, RpcErrorAnswer
from tallystick.chain.logs import RawLog, logs_once
from tallystick.chain.together import together
from tallystick.samples.context import FeatureContext
from tallystick.samples.contract import READ_GAS, as_number, read_balance

HOLDERS_TRIED = 5
_NOBODY = bytes(20)
_TRANSFER_CALL = selector("transfer(address,uint256)")
_NARROWEST_BLOCKS = 4


@dataclass(frozen=True, slots=True)
class Window:
    """Transfers of the last ``blocks`` blocks, oldest first."""

    logs: list[RawLog]
    blocks: int


@dataclass(frozen=True, slots=True)
class Resale:
    """A rehearsal: could the receiver send all it has back to where it came from?"""

    holder: bytes
    succeeded: bool


async def recent_transfers(
    context: FeatureContext,
    token: bytes,
    payer: bytes | None = None,
    pay_to: bytes | None = None,
) -> Window:
    """The token's latest transfers; a node that finds them too many is asked for fewer.

    Raises ``RpcUnavailable``; an empty window of 0 blocks when no range is small enough.
    """
    head = await context.chain.block("latest")
    if head is None:
        raise BlockNotSeen("the node has no newest block")
    topics = [TRANSFER, payer and word(payer), pay_to and word(pay_to)]
    blocks = min(context.recent_blocks, head.number + 1)
    while blocks:
        bounds = {
            "fromBlock": hex(head.number - blocks + 1),
            "toBlock": hex(head.number),
        }
        try:
            found = await logs_once(context.chain, token, topics, bounds)
        except RpcErrorAnswer:
            blocks = blocks // 4 if blocks > _NARROWEST_BLOCKS else 0
            continue
        return Window([log for log in found if len(log.topics) == 3], blocks)
    return Window([], 0)


async def try_resales(
    context: FeatureContext, token: bytes, window: Window
) -> list[Resale]:
    """Rehearse, for the latest receivers, sending all of it back to the sender.

    That is what a sale does: the pool that the tokens came from takes them again.
    """
    senders: dict[bytes, bytes] = {}
    for log in reversed(window.logs):
        sender, holder = log.topics[1][-20:], log.topics[2][-20:]
        if _NOBODY not in (sender, holder) and sender != holder:
            senders.setdefault(holder, sender)
    pairs = list(senders.items())[:HOLDERS_TRIED]
    tried = [_try_one(context, token, holder, sender) for holder, sender in pairs]
    return [item for item in await together(tried, context.at_once) if item]


async def _try_one(
    context: FeatureContext, token: bytes, holder: bytes, sender: bytes
) -> Resale | None:
    held = await read_balance(context.chain, token, holder)
    if not held:
        return None
    call = _TRANSFER_CALL + word(sender) + word(held)
    try:
        answer = await context.chain.call(token, call, caller=holder, gas=READ_GAS)
    except RpcErrorAnswer:
        return Resale(holder, succeeded=False)
    # Tokens older than the standard's final text answer with nothing.
    return Resale(holder, succeeded=answer == b"" or as_number(answer) == 1)

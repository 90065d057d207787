"""Signed transactions: made without the network, sent as often as needed.

The same bytes are the same transaction with the same hash, so sending again is always
safe. Whatever a node answers says nothing of the payment: only evidence does.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from eth_account import Account
from eth_utils.crypto import keccak

from tallystick.chain.errors import RpcErrorAnswer
from tallystick.chain.fees import Fees
from tallystick.chain.hexadecimal import Garbage, fixed, to_hex
from tallystick.chain.rpc import Chain

PLAIN_TRANSFER_GAS = 21_000
_TEXT_LIMIT = 200


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """Bytes to store before they are sent, and the hash under which they are mined."""

    raw: bytes = field(repr=False)
    hash: bytes


class Outcome(StrEnum):
    """What the node made of the bytes."""

    ACCEPTED = "accepted"
    ALREADY_KNOWN = "already_known"
    NONCE_TOO_LOW = "nonce_too_low"
    UNDERPRICED = "underpriced"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Broadcast:
    """The node's answer to a transaction; ``text`` is its own, for the log.

    already known, nonce too low: look for one of our hashes at that nonce;
    underpriced: same nonce, higher fees; insufficient funds: the relayer needs gas
    money; refused: everything else, look at the text.
    """

    outcome: Outcome
    text: str = ""


# geth, op-geth, reth, erigon, nethermind, besu and anvil, each in its own words.
_WORDS = {
    Outcome.ALREADY_KNOWN: (
        r"already (known|imported|exists)|known transaction|alreadyknown|in (the )?mempool"
    ),
    Outcome.NONCE_TOO_LOW: (
        r"nonce (is )?too low|nonce_too_low|oldnonce|old nonce|nonce has already been used"
    ),
    Outcome.UNDERPRICED: (
        r"underpriced|less than block base fee|fee ?too ?low|below (the )?(base|minimum)"
        r"|fee cap (too low|less)|gas price (is )?(too low|below)|tip (too low|below)"
    ),
    Outcome.INSUFFICIENT_FUNDS: r"insufficient (funds|balance)|upfront cost exceeds",
}


def sign_transaction(
    chain: Chain,
    key: bytes,
    nonce: int,
    calldata: bytes,
    *,
    gas: int,
    fees: Fees,
    to: bytes | None = None,
) -> SignedTransaction:
    """A transaction that calls the token and carries no ether; asks no node.

    ``to`` is called in the token's place.
    """
    call = {"to": to or chain.token, "data": calldata, "gas": gas}
    return _sign(chain, key, nonce, fees, call)


def sign_filler(chain: Chain, key: bytes, nonce: int, fees: Fees) -> SignedTransaction:
    """A transaction of nothing to oneself: takes a nonce whose payment has died.

    Otherwise the gap would hold up every later settlement of this key.
    """
    own = bytes.fromhex(Account.from_key(key).address[2:])
    call = {"to": own, "data": b"", "gas": PLAIN_TRANSFER_GAS}
    return _sign(chain, key, nonce, fees, call)


async def broadcast(chain: Chain, raw: bytes) -> Broadcast:
    """Hand the bytes to a node.

    Raises ``RpcUnavailable`` when no answer came: they may or may not be on their way.
    """
    wanted = keccak(raw)

    def read(value: Any) -> bytes:
        if fixed(value, 32) != wanted:
            raise Garbage("the hash of another transaction")
        return wanted

    try:
        await chain.ask("eth_sendRawTransaction", [to_hex(raw)], read)
    except RpcErrorAnswer as error:
        found = (
            outcome
            for outcome, words in _WORDS.items()
            if re.search(words, error.text, re.IGNORECASE)
        )
        return Broadcast(next(found, Outcome.REFUSED), error.text[:_TEXT_LIMIT])
    return Broadcast(Outcome.ACCEPTED)


def _sign(
    chain: Chain, key: bytes, nonce: int, fees: Fees, call: dict[str, Any]
) -> SignedTransaction:
    signed = Account.sign_transaction(
        {
            "type": 2,
            "chainId": chain.expected_chain_id,
            "nonce": nonce,
            "maxFeePerGas": fees.max_fee_per_gas,
            "maxPriorityFeePerGas": fees.max_priority_fee_per_gas,
            "value": 0,
            **call,
        },
        key,
    )
    return SignedTransaction(bytes(signed.raw_transaction), bytes(signed.hash))

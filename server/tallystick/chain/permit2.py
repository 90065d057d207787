"""Permit2 and x402's proxy on the chain: the call that settles, and what it leaves.

The proxy's event says nothing, and Permit2 logs nothing at all. What a transaction
settled is in its calldata: a call of the proxy that succeeded has used the permit that
it names, and Permit2 lets a nonce of an owner be used once, for whatever token.
Sources: Uniswap's Permit2 (SignatureTransfer) and x402ExactPermit2Proxy.
"""

from dataclasses import dataclass
from typing import Any

from eth_abi.abi import encode

from tallystick.chain import abi
from tallystick.chain.authorization import AuthorizationFields
from tallystick.chain.errors import BlockNotSeen, RpcErrorAnswer, TokenUnreadable
from tallystick.chain.hexadecimal import (
    Garbage,
    field,
    fixed,
    mapping,
    octets,
    to_hex,
)
from tallystick.chain.rpc import Chain, Tag

PERMIT2 = bytes.fromhex("000000000022d473030f116ddee9f6b43ac78ba3")
"""Where Permit2 is on every chain."""
EXACT_PROXY = bytes.fromhex("402085c248eea27d92e8b30b2c58ed07f9e20001")
"""Where x402ExactPermit2Proxy is."""

_PERMIT = "((address,uint256),uint256,uint256)"
_WITNESS = "(address,uint256)"
_SETTLE_TYPES = (_PERMIT, "address", _WITNESS, "bytes")
_APPROVAL = "(uint256,uint256,bytes32,bytes32,uint8)"
SETTLE = abi.selector(f"settle({','.join(_SETTLE_TYPES)})")
SETTLE_WITH_PERMIT = abi.selector(
    f"settleWithPermit({','.join((_APPROVAL, *_SETTLE_TYPES))})"
)
INVALIDATION = abi.topic("UnorderedNonceInvalidation(address,uint256,uint256)")
_ITS_PERMIT2 = abi.selector("PERMIT2()")
NONCE_BITMAP = abi.selector("nonceBitmap(address,uint256)")
ALLOWANCE = abi.selector("allowance(address,address)")
_WORDS_OF_APPROVAL = 5
_WORDS_OF_PERMIT = 7


def permit_words(permit: AuthorizationFields, token: bytes) -> bytes:
    """What the proxy is told of a permit, without the signature: seven ABI words.

    ``pay_to`` and ``valid_after`` are its witness, ``valid_before`` is its deadline.
    """
    words = (
        token,
        permit.value,
        permit.nonce,
        permit.valid_before,
        permit.payer,
        permit.pay_to,
        permit.valid_after,
    )
    return b"".join(abi.word(one) for one in words)


def permit_call(permit: AuthorizationFields, signature: bytes, token: bytes) -> bytes:
    """Calldata of the proxy's ``settle``."""
    nonce = int.from_bytes(permit.nonce, "big")
    arguments = (
        ((token, permit.value), nonce, permit.valid_before),
        permit.payer,
        (permit.pay_to, permit.valid_after),
        signature,
    )
    return SETTLE + encode(_SETTLE_TYPES, arguments)


@dataclass(frozen=True, slots=True)
class SettledPermit:
    """What a call of the proxy has settled, if it succeeded."""

    token: bytes
    amount: int
    nonce: bytes
    payer: bytes
    pay_to: bytes

    @property
    def terms(self) -> tuple[bytes, int, bytes, bytes]:
        """Token, amount, from whom and to whom: what its Transfer says."""
        return self.token, self.amount, self.payer, self.pay_to


def read_settlement(calldata: bytes) -> SettledPermit | None:
    """The permit that a call of the proxy names; None for any other call.

    Solidity refuses addresses whose upper bytes are not zero, so a call that succeeded
    is read in one way only.
    """
    first = abi.SELECTOR_BYTES
    if calldata[:first] == SETTLE_WITH_PERMIT:
        first += _WORDS_OF_APPROVAL * abi.WORD_BYTES
    elif calldata[:first] != SETTLE:
        return None
    size = abi.WORD_BYTES
    words = [
        calldata[first + at * size : first + (at + 1) * size]
        for at in range(_WORDS_OF_PERMIT)
    ]
    if len(words[-1]) != size:
        return None
    token, amount, nonce, _, payer, pay_to, _ = words
    return SettledPermit(
        token=token[-20:],
        amount=int.from_bytes(amount, "big"),
        nonce=nonce,
        payer=payer[-20:],
        pay_to=pay_to[-20:],
    )


async def calldata_of(chain: Chain, tx_hash: bytes, block_hash: bytes) -> bytes:
    """What a mined transaction was sent with.

    Raises ``BlockNotSeen`` when the node does not know it in that block,
    ``RpcUnavailable``.
    """

    def read(value: Any) -> bytes | None:
        if value is None:
            return None
        found = mapping(value)
        if fixed(field(found, "hash"), 32) != tx_hash:
            raise Garbage("another transaction")
        where = found.get("blockHash")
        if where is None or fixed(where, 32) != block_hash:
            return None
        return octets(field(found, "input"))

    found = await chain.ask("eth_getTransactionByHash", [to_hex(tx_hash)], read)
    if found is None:
        raise BlockNotSeen("a transaction is not in its block any more, or not yet")
    return found


async def permit_used(
    chain: Chain, payer: bytes, nonce: bytes, block: int | Tag = "latest"
) -> bool:
    """Whether Permit2's nonce is gone: used for any token, or invalidated.

    Raises ``TokenUnreadable`` where there is no Permit2, or for a block whose state the
    node has no more; ``RpcUnavailable``.
    """
    word = int.from_bytes(nonce, "big") >> 8
    calldata = NONCE_BITMAP + abi.word(payer) + abi.word(word)
    bitmap = await _number(chain, PERMIT2, calldata, block)
    return bool(bitmap >> nonce[-1] & 1)


async def allowance_to_permit2(chain: Chain, payer: bytes) -> int:
    """How much of the payer's tokens Permit2 may move, in atomic units.

    Raises ``TokenUnreadable``, ``RpcUnavailable``.
    """
    calldata = ALLOWANCE + abi.word(payer) + abi.word(PERMIT2)
    return await _number(chain, chain.token, calldata, "latest")


async def knows_domain(chain: Chain, separator: bytes) -> bool:
    """Whether Permit2 is there, with this EIP-712 domain; raises ``RpcUnavailable``."""
    return await _says(chain, PERMIT2, abi.DOMAIN_SEPARATOR) == separator


async def is_exact_proxy(chain: Chain) -> bool:
    """Whether x402's proxy is there and spends by Permit2; raises ``RpcUnavailable``."""
    return await _says(chain, EXACT_PROXY, _ITS_PERMIT2) == abi.word(PERMIT2)


async def _says(chain: Chain, to: bytes, calldata: bytes) -> bytes:
    try:
        return await chain.call(to, calldata)
    except RpcErrorAnswer:
        return b""


async def _number(chain: Chain, to: bytes, calldata: bytes, block: int | Tag) -> int:
    try:
        answer = await chain.call(to, calldata, block=block)
    except RpcErrorAnswer as error:
        raise TokenUnreadable(f"{to_hex(to)} does not answer") from error
    if len(answer) != abi.WORD_BYTES:
        raise TokenUnreadable(f"{to_hex(to)} answers {len(answer)} bytes, not 32")
    return int.from_bytes(answer, "big")

"""Reads of the payment token (FiatToken: EIP-20 with EIP-712 and EIP-3009)."""

import asyncio
from dataclasses import dataclass

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError

from tallystick.chain import abi
from tallystick.chain.errors import RpcErrorAnswer, RpcUnavailable, TokenUnreadable
from tallystick.chain.hexadecimal import to_hex
from tallystick.chain.rpc import Chain, Tag
from tallystick.chain.together import together
from tallystick.kernel.money import UsdcAtomic

EIP1271_GAS = 200_000
EIP1271_SECONDS = 2.0
EIP1271_MAGIC = abi.IS_VALID_SIGNATURE.ljust(abi.WORD_BYTES, b"\0")
_TEXT_LIMIT_BYTES = 1_000


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What the token says of itself; the first three make its EIP-712 domain."""

    name: str
    version: str
    decimals: int
    domain_separator: bytes


async def token_facts(chain: Chain) -> TokenFacts:
    """The token's own name, version, decimals and domain separator.

    Raises ``TokenUnreadable`` when no such token is there, ``RpcUnavailable``.
    """
    asked = (abi.NAME, abi.VERSION, abi.DECIMALS, abi.DOMAIN_SEPARATOR)
    answers = await together([_read(chain, calldata) for calldata in asked], len(asked))
    return TokenFacts(
        name=_text(answers[0]),
        version=_text(answers[1]),
        decimals=_number(answers[2]),
        domain_separator=_word(answers[3]),
    )


async def balance_of(
    chain: Chain, holder: bytes, block: int | Tag = "latest"
) -> UsdcAtomic:
    """The holder's tokens, in atomic units, at a block's height or tag.

    Raises ``TokenUnreadable``, also for a block that the node lacks; ``RpcUnavailable``.
    """
    calldata = abi.BALANCE_OF + abi.word(holder)
    return UsdcAtomic(_number(await _read(chain, calldata, block)))


async def nonce_used(
    chain: Chain, payer: bytes, nonce: bytes, block: int | Tag = "latest"
) -> bool:
    """Whether EIP-3009's nonce is gone: captured *or* cancelled, only the logs tell.

    Raises ``TokenUnreadable``, ``RpcUnavailable``.
    """
    calldata = abi.AUTHORIZATION_STATE + abi.word(payer) + abi.word(nonce)
    state = _number(await _read(chain, calldata, block))
    if state > 1:
        raise TokenUnreadable("authorizationState gave neither true nor false")
    return state == 1


async def is_valid_signature(
    chain: Chain, wallet: bytes, digest: bytes, signature: bytes
) -> bool:
    """Whether the contract at ``wallet`` says that it signed the digest (EIP-1271).

    Exactly the padded magic value counts; a revert, any other answer or no contract is
    False. The call may burn 200k gas and take 2 s, since the wallet is the payer's.
    Raises ``RpcUnavailable`` without an answer: then nothing is known.
    """
    question = signature_question(digest, signature)
    try:
        async with asyncio.timeout(EIP1271_SECONDS):
            answer = await chain.call(wallet, question, gas=EIP1271_GAS)
    except RpcErrorAnswer:
        return False
    except TimeoutError as error:
        raise RpcUnavailable("the wallet's signature check took too long") from error
    return answer == EIP1271_MAGIC


def signature_question(digest: bytes, signature: bytes) -> bytes:
    """Calldata of EIP-1271's ``isValidSignature``."""
    arguments = encode(("bytes32", "bytes"), (digest, signature))
    return abi.IS_VALID_SIGNATURE + arguments


async def _read(chain: Chain, calldata: bytes, block: int | Tag = "latest") -> bytes:
    try:
        return await chain.call(chain.token, calldata, block=block)
    except RpcErrorAnswer as error:
        shown = to_hex(chain.token)
        raise TokenUnreadable(f"no such token answers at {shown}") from error


def _word(answer: bytes) -> bytes:
    if len(answer) != abi.WORD_BYTES:
        raise TokenUnreadable(f"a token's answer has {len(answer)} bytes, not 32")
    return answer


def _number(answer: bytes) -> int:
    return int.from_bytes(_word(answer), "big")


def _text(answer: bytes) -> str:
    if len(answer) > _TEXT_LIMIT_BYTES:
        raise TokenUnreadable("a token's text is absurdly long")
    try:
        (found,) = decode(("string",), answer)
    except (DecodingError, UnicodeDecodeError, OverflowError) as error:
        raise TokenUnreadable("a token's text cannot be read") from error
    return str(found)

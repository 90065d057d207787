"""A wallet deployed in the call that captures its first payment (ERC-6492).

What a signature names to be called is never called by a key of ours: Multicall3 calls
it, a contract that everybody may use, that owns nothing and that nothing obeys. The
payment is captured in the same transaction, or all of it is undone.
"""

import asyncio
from typing import Protocol

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError

from tallystick.chain import abi
from tallystick.chain.errors import RpcErrorAnswer, RpcUnavailable
from tallystick.chain.rpc import Chain
from tallystick.chain.token import EIP1271_MAGIC, EIP1271_SECONDS, signature_question

MULTICALL3 = bytes.fromhex("ca11bde05977b3631167028862be2a173976ca11")
"""Where Multicall3 is on Base, Base Sepolia and most chains (mds1/multicall3)."""
DEPLOYMENT_GAS_CAP = 600_000


class DeploymentFields(Protocol):
    """The call that deploys a wallet: a factory's address of 20 bytes, and calldata."""

    @property
    def factory(self) -> bytes: ...

    @property
    def calldata(self) -> bytes: ...


def deploying_call(
    deployment: DeploymentFields, to: bytes, calldata: bytes, *, must_succeed: bool
) -> bytes:
    """Calldata for Multicall3: deploy, then make the call at ``to``.

    The deployment may fail, because somebody may have made it meanwhile. If the call
    fails that must succeed, nothing of either stays.
    """
    calls = [
        (deployment.factory, True, deployment.calldata),
        (to, not must_succeed, calldata),
    ]
    return abi.AGGREGATE3 + encode(("(address,bool,bytes)[]",), (calls,))


def second_result(answer: bytes) -> tuple[bool, bytes] | None:
    """Whether the call after the deployment succeeded, and what it returned.

    ``None`` for an answer that is not Multicall3's.
    """
    try:
        ((_, (succeeded, returned)),) = decode(("(bool,bytes)[]",), answer)
    except (DecodingError, ValueError, OverflowError):
        return None
    return succeeded, returned


async def will_vouch(
    chain: Chain,
    wallet: bytes,
    digest: bytes,
    signature: bytes,
    deployment: DeploymentFields,
) -> bool:
    """Whether the wallet, once deployed, says that it signed the digest.

    Deployed and asked in one rehearsal. An address that has no code after it says
    nothing, so that is False, as is whatever does not end. Raises ``RpcUnavailable``
    without an answer: then nothing is known.
    """
    question = signature_question(digest, signature)
    call = deploying_call(deployment, wallet, question, must_succeed=False)
    try:
        async with asyncio.timeout(EIP1271_SECONDS):
            answer = await chain.call(MULTICALL3, call, gas=DEPLOYMENT_GAS_CAP)
    except RpcErrorAnswer:
        return False
    except TimeoutError as error:
        raise RpcUnavailable("the wallet's deployment took too long") from error
    return second_result(answer) == (True, EIP1271_MAGIC)

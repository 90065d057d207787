"""What OP-stack chains take for a transaction's data, beyond its gas.

Base posts its data to Ethereum and bills each transaction for it; a predeploy says how
much at the most (Fjord and later: docs.optimism.io, GasPriceOracle).
"""

from tallystick.chain import abi
from tallystick.chain.hexadecimal import Garbage, octets, to_hex
from tallystick.chain.rpc import Chain

GAS_PRICE_ORACLE = bytes.fromhex("420000000000000000000000000000000000000f")
_UPPER_BOUND = abi.selector("getL1FeeUpperBound(uint256)")
# The fields of an unsigned EIP-1559 transaction beside its calldata, each at its
# longest; the oracle itself adds the signature.
_ENVELOPE_BYTES = 110


async def has_l1_fee(chain: Chain) -> bool:
    """Whether the chain bills for data; it does not change. Raises ``RpcUnavailable``."""
    return bool(await chain.code_at(GAS_PRICE_ORACLE))


async def l1_fee_bound(chain: Chain, calldata_bytes: int) -> int:
    """The most that a transaction with so much calldata pays for its data now, in wei.

    Raises ``RpcUnavailable``, ``RpcErrorAnswer`` (a chain older than Fjord).
    """
    size = abi.word(calldata_bytes + _ENVELOPE_BYTES)
    call = {"to": to_hex(GAS_PRICE_ORACLE), "data": to_hex(_UPPER_BOUND + size)}
    return await chain.ask("eth_call", [call, "latest"], _read_word)


def _read_word(value: object) -> int:
    found = octets(value)
    if len(found) != abi.WORD_BYTES:
        raise Garbage("no fee")
    return int.from_bytes(found, "big")

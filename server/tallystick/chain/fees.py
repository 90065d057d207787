"""What a transaction pays for its gas, by EIP-1559 and never at a flat price."""

from dataclasses import dataclass
from typing import Any

from tallystick.chain.hexadecimal import (
    Garbage,
    field,
    mapping,
    quantity,
    sequence,
)
from tallystick.chain.rpc import Chain

SMALLEST_TIP_WEI = 1_000_000
"""0.001 gwei: what Base's own nodes suggest while blocks are not full."""

_HISTORY_BLOCKS = 10
_PERCENTILE = 50


@dataclass(frozen=True, slots=True)
class Fees:
    """Wei for each unit of gas: the most we pay, and the tip inside it (EIP-1559)."""

    max_fee_per_gas: int
    max_priority_fee_per_gas: int

    def bumped(self) -> "Fees":
        """An eighth more of both: nodes want at least a tenth to replace a pooled one."""
        return Fees(
            self.max_fee_per_gas * 9 // 8 + 1,
            self.max_priority_fee_per_gas * 9 // 8 + 1,
        )

    def as_hex(self) -> dict[str, str]:
        """The two members of a JSON-RPC call object."""
        return {
            "maxFeePerGas": hex(self.max_fee_per_gas),
            "maxPriorityFeePerGas": hex(self.max_priority_fee_per_gas),
        }


async def fees(chain: Chain) -> Fees:
    """Fees that get a transaction into one of the next blocks.

    The tip is the median of what the last ten blocks took; the most is that and twice
    the coming base fee, which so may rise for five blocks. The caller bounds the cost.
    Raises ``RpcUnavailable``.
    """
    parameters = [hex(_HISTORY_BLOCKS), "latest", [_PERCENTILE]]
    return await chain.ask("eth_feeHistory", parameters, _read_fees)


def _read_fees(value: Any) -> Fees:
    history = mapping(value)
    base_fees = [quantity(item) for item in sequence(field(history, "baseFeePerGas"))]
    if not base_fees:
        raise Garbage("no base fee")
    # Empty blocks took no tip and say nothing about its price; null: no history at all.
    taken = [
        quantity(item)
        for block in sequence(history.get("reward") or [])
        for item in sequence(block)
    ]
    tips = sorted(tip for tip in taken if tip) or [0]
    tip = max(tips[len(tips) // 2], SMALLEST_TIP_WEI)
    return Fees(2 * base_fees[-1] + tip, tip)

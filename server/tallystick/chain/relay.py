"""The bytes that we send, in the order in which a relayer needs them.

    capture → simulate → estimate_gas → fees → sign_transaction → broadcast

Nothing here decides or remembers: the claim, the one commit that stores the signed
bytes, and the repeated sending are the caller's.
"""

from tallystick.chain.authorization import AuthorizationFields
from tallystick.chain.broadcast import (
    Broadcast,
    Outcome,
    SignedTransaction,
    broadcast,
    sign_filler,
    sign_transaction,
)
from tallystick.chain.deployment import DEPLOYMENT_GAS_CAP
from tallystick.chain.fees import Fees, fees
from tallystick.chain.settlement import (
    CONTRACT_GAS_CAP,
    KEY_GAS_CAP,
    Capture,
    Refusal,
    Simulation,
    capture,
    estimate_gas,
    gas_cap,
    settlement_call,
    simulate,
)

__all__ = [
    "CONTRACT_GAS_CAP",
    "DEPLOYMENT_GAS_CAP",
    "KEY_GAS_CAP",
    "AuthorizationFields",
    "Broadcast",
    "Capture",
    "Fees",
    "Outcome",
    "Refusal",
    "SignedTransaction",
    "Simulation",
    "broadcast",
    "capture",
    "estimate_gas",
    "fees",
    "gas_cap",
    "settlement_call",
    "sign_filler",
    "sign_transaction",
    "simulate",
]

"""``{"transactionId"}`` at ``POST /api/credits/add``: claim a plain transfer."""

from functools import partial
from typing import Any

from starlette.responses import Response

from tallystick.api.answers import ExactJson
from tallystick.api.identify import Caller
from tallystick.catalog.pricing import credits_for_usdc
from tallystick.identity.keys import Scope
from tallystick.kernel.money import to_decimal
from tallystick.ledger.balances import customer_balance
from tallystick.payments.observing.matching import Rate
from tallystick.payments.observing.redeeming import Redeemed, Redeemer, redeem
from tallystick.paywall.answer import NO_STORE
from tallystick.paywall.gate import Gate


async def redeem_transfer(gate: Gate, caller: Caller, transaction: str) -> Response:
    """The credits for it, once, for every copy alike; see ``payments.redeeming``."""
    caller.require(Scope.READ)
    shelf = gate.catalog()
    rate = Rate(shelf.version, partial(credits_for_usdc, shelf))
    who = Redeemer(caller.customer_id, caller.stranger)
    tx_hash = bytes.fromhex(transaction.removeprefix("0x"))
    done = await redeem(gate.db, gate.rail, rate, who, tx_hash)
    return await _receipt(gate, transaction.lower(), done)


async def _receipt(gate: Gate, transaction: str, done: Redeemed) -> Response:
    async with gate.db.read() as session:
        funds = await customer_balance(session, done.customer_id)
    document: dict[str, Any] = {
        "success": True,
        "added": to_decimal(done.credits),
        "credits": to_decimal(funds.available + funds.held),
        "transfer": {
            "transaction": transaction,
            "network": gate.rail.network,
            "usdc": to_decimal(done.usdc),
        },
    }
    headers = dict(NO_STORE)
    if done.replayed:
        headers["Idempotency-Replayed"] = "true"
    return ExactJson(document, headers=headers)

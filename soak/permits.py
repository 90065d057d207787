"""Who pays by Permit2 in ``payments``: signed by the stock client, used by x402's proxy.

Honest payers are those of ``payers`` with ``stock_permit`` in place of ``stock``. The
others do with a permit what ``attackers`` do with an authorization.
"""

import httpx
from eth_account.signers.local import LocalAccount
from tests.api.payments import Payment, address_of, decode
from tests.live import Buyer
from tests.permits import approval, invalidation, only_permit2

from soak.attackers import front_run_by, race, strike
from soak.payers import PURCHASE, Town, nonce_of
from tallystick.chain.local import LocalChain
from tallystick.chain.permit2 import EXACT_PROXY, PERMIT2, permit_call
from tallystick.x402.headers import decode_payment
from tallystick.x402.permit2 import Permit2Authorization
from x402 import x402Client


class PermitBuyer(Buyer):
    """A stock client whose owner wants to pay by Permit2 and nothing else."""

    def _payer(self) -> x402Client:
        payer = super()._payer()
        payer.register_policy(only_permit2)
        return payer


async def stock_permit(wallet: LocalAccount, offer: httpx.Response) -> Payment:
    """What such a client answers to this 402."""
    headers = await PermitBuyer(wallet).pay(offer.headers)
    return Payment(decode(headers["PAYMENT-SIGNATURE"]))


async def approve(chain: LocalChain, wallet: LocalAccount) -> None:
    """Let Permit2 move the wallet's dollars; for the pool, mined later."""
    await chain.submit(address_of(wallet), chain.token, approval(2**255))


async def purchase_by_permit(town: Town, wallet: LocalAccount) -> Payment:
    """A payment for ten credits that nobody has seen."""
    return await stock_permit(wallet, await town.offer(**PURCHASE))


async def front_run(town: Town, wallet: LocalAccount) -> None:
    """Somebody else has the proxy settle the permit, before or while we do."""
    payment = await purchase_by_permit(town, wallet)
    permit = permit_of(payment)
    call = permit_call(permit, payment.signature, permit.token)
    await front_run_by(town, wallet, payment, call, to=EXACT_PROXY)


async def withdraw(town: Town, wallet: LocalAccount) -> None:
    """The payer uses his nonce up once he has shown what he signed with it."""
    payment = await purchase_by_permit(town, wallet)
    call, payer = invalidation(permit_of(payment).nonce), address_of(wallet)
    await race(
        town, "withdrawn", payment, lambda: strike(town, payer, call, to=PERMIT2)
    )


def permit_of(payment: Payment) -> Permit2Authorization:
    """What the payer signed."""
    (header,) = payment.headers.values()
    decoded = decode_payment([header], [])
    assert decoded is not None, nonce_of(payment)
    assert isinstance(decoded.authorization, Permit2Authorization)
    return decoded.authorization

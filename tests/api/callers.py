"""Customers, their keys and their credits, made without a payment."""

import secrets

from eth_account.signers.local import LocalAccount

from tallystick.credits.grants import grant_promotional
from tallystick.customers.wallets import (
    customer_of_wallet,
    ensure_customer_of_wallet,
)
from tallystick.identity.keys import Scope, issue_key
from tallystick.identity.models import KeyKind
from tallystick.kernel.db import WriteSession
from tallystick.kernel.money import MicroCredits
from tests.api.payments import address_of
from tests.live import LiveServer


async def issue(
    server: LiveServer,
    wallet: LocalAccount | None,
    *scopes: Scope,
    expires_at_ms: int | None = None,
) -> str:
    """A key of the wallet's customer; without a wallet the seller's own."""
    gate = server.gate
    async with gate.db.read() as session:
        owner = wallet and await customer_of_wallet(session, address_of(wallet))
    kind = KeyKind.CUSTOMER if wallet else KeyKind.SERVICE
    made = await gate.db.write(
        lambda session: issue_key(
            session,
            gate.seal,
            kind,
            name="test",
            scopes=frozenset(scopes or Scope),
            customer_id=owner,
            expires_at_ms=expires_at_ms,
        )
    )
    return made.secret


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def give(server: LiveServer, wallet: LocalAccount, credits_given: float) -> None:
    """Credits for nothing; the wallet's customer is made if there is none."""

    async def work(session: WriteSession) -> None:
        owner = await ensure_customer_of_wallet(session, address_of(wallet))
        await grant_promotional(
            session,
            owner,
            MicroCredits(int(credits_given * 1_000_000)),
            idempotency_key=secrets.token_bytes(16),
            reference="test",
            memo="test",
        )

    await server.gate.db.write(work)


async def customer_key(server: LiveServer, wallet: LocalAccount, credits_: int) -> str:
    """The key of a new customer who has so many credits."""
    await give(server, wallet, credits_)
    return await issue(server, wallet)

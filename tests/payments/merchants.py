"""Another seller, for whom the house's processes are the facilitator."""

import asyncio
import secrets
from dataclasses import dataclass, field

from sqlmodel import col, select

from tallystick.chain.token import balance_of
from tallystick.kernel.db import query
from tallystick.payments.merchants.claims import claim_settlement, read_settlement
from tallystick.payments.merchants.registry import (
    ProvenMerchant,
    add_merchant,
    verify_merchant,
)
from tallystick.payments.merchants.settler import step_for_merchant
from tallystick.payments.models.merchants import (
    PENDING_SETTLEMENTS,
    MerchantGas,
    MerchantSettlement,
    SettlementState,
)
from tallystick.payments.models.topups import RelayedTransaction
from tallystick.workers.crew import Crew
from tallystick.workers.merchants import begin_due_for_merchants
from tallystick.x402.settle_asked import Asked
from tallystick.x402.wire import AcceptedTerms, Authorization, PaymentPayload
from tests.house import House, Process

OURS = ("customer", "claim", "topup", "ledger_transaction", "chain_transfer")
"""Tables that a merchant's money must leave alone."""


def address() -> bytes:
    return secrets.token_bytes(20)


@dataclass
class Shop:
    """A merchant at a house, and what its server would ask for."""

    house: House
    merchant: ProvenMerchant
    key: str
    pay_to: bytes = field(default_factory=address)

    @classmethod
    async def opened(cls, house: House, process: Process) -> "Shop":
        pay_to = address()
        made = await process.db.write(
            lambda session: add_merchant(
                session, house.seal, name="another", payees=[pay_to]
            )
        )
        async with process.db.read() as session:
            proven = await verify_merchant(session, house.seal, made.secret)
        return cls(house, proven, made.secret, pay_to)

    def asks(self, signed: tuple[Authorization, bytes]) -> Asked:
        authorization, signature = signed
        domain = self.house.processes[0].rail.domain
        wanted = AcceptedTerms(
            "exact",
            domain.network,
            authorization.value,
            domain.contract,
            self.pay_to,
            300,
            {"name": domain.name, "version": domain.version},
        )
        payload = PaymentPayload(
            2, "exact", domain.network, authorization, signature, wanted
        )
        return Asked(2, payload, wanted)

    async def claim(
        self, process: Process, signed: tuple[Authorization, bytes]
    ) -> MerchantSettlement:
        asked = self.asks(signed)
        return await claim_settlement(process.db, process.rail, self.merchant, asked)

    async def income(self) -> int:
        return await balance_of(self.house.local.chain, self.pay_to)


async def look(process: Process, settlement_id: int) -> MerchantSettlement:
    await process.keep_keys()
    await step_for_merchant(process.db, process.rail, settlement_id)
    async with process.db.read() as session:
        return await read_settlement(session, settlement_id)


async def until_known(process: Process, settlement_id: int) -> MerchantSettlement:
    """Look again and again until the outcome is known."""
    for _ in range(300):
        one = await look(process, settlement_id)
        if one.state not in PENDING_SETTLEMENTS:
            return one
        await asyncio.sleep(0.01)
    raise AssertionError(f"it stays {one.state}")


async def settle_due(process: Process) -> int:
    await process.keep_keys()
    crew = Crew(16)
    begun = await begin_due_for_merchants(process.db, process.rail, crew)
    await crew.all_end()
    return begun


async def sent_for_merchants(process: Process) -> list[RelayedTransaction]:
    ordered = select(RelayedTransaction).where(
        col(RelayedTransaction.merchant_settlement_id).is_not(None)
    )
    async with process.db.read() as session:
        return list((await session.exec(ordered)).all())


async def gas_of(process: Process, shop: Shop) -> MerchantGas:
    found = select(MerchantGas).where(col(MerchantGas.merchant_id) == shop.merchant.id)
    async with process.db.read() as session:
        return (await session.exec(found)).one()


async def require_untouched(process: Process) -> None:
    """Nobody was credited and nothing was booked; the audit says the same."""
    await process.observe()
    async with process.db.read() as session:
        for table in OURS:
            rows = await query(session, f"SELECT COUNT(*) AS found FROM {table}")
            assert rows[0]["found"] == 0, table


async def require_settled_once(process: Process, shop: Shop, value: int) -> None:
    assert await shop.income() == value
    async with process.db.read() as session:
        rows = (await session.exec(select(MerchantSettlement))).all()
    assert [one.state for one in rows] == [SettlementState.SETTLED]
    # Signed again with higher fees it is still one: a nonce is mined once.
    assert len({one.evm_nonce for one in await sent_for_merchants(process)}) == 1
    await require_untouched(process)

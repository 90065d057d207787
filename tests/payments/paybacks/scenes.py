"""A shop whose customers ask for their money back, and what its seller signs."""

import asyncio
import json
import secrets
from dataclasses import dataclass
from typing import Any

from eth_account import Account
from eth_account.messages import encode_typed_data

from tallystick.chain.hexadecimal import octets
from tallystick.chain.local import LocalChain
from tallystick.chain.relay import settlement_call
from tallystick.chain.token import balance_of
from tallystick.credits import holds
from tallystick.kernel.money import MicroCredits
from tallystick.ledger import chart
from tallystick.ledger.balances import net_debits
from tallystick.metering.charges import Usage, charge
from tallystick.payments.models.paybacks import Payback
from tallystick.payments.models.topups import TopUp, TopUpState
from tallystick.payments.observing.confirm import confirm
from tallystick.payments.paybacks.cancelling import Cancelling, cancel
from tallystick.payments.paybacks.proposing import Proposal, propose
from tallystick.payments.paybacks.reading import read_payback
from tallystick.payments.paybacks.terms import authorization_of, typed_data
from tallystick.payments.rules.paybacks import PaybackRules
from tests.chain.payer import transfer_call
from tests.house import DOLLAR, Process, Wallet
from tests.strangers import pool

RULES = PaybackRules(20 * DOLLAR, 10 * DOLLAR, 15 * DOLLAR)
CREDIT = 1_000_000
WHY = "asked for by mail"


@dataclass
class Shop:
    """A process, the chain that it is on, and who has the key of ``pay_to``."""

    process: Process
    local: LocalChain
    seller: Wallet

    async def bought(self, wallet: Wallet, usdc: int = 5 * DOLLAR) -> TopUp:
        """Ten credits for each dollar, in a block that is final."""
        process = self.process
        signed = await wallet.authorize(process.rail.pay_to, usdc)
        topup = await process.settle(await process.claim(signed))
        return await self.made_final(topup.id)

    async def made_final(self, topup_id: int) -> TopUp:
        await self.local.mine(3)
        await confirm(self.process.db, self.process.rail)
        topup = await self.process.topup(topup_id)
        assert topup.state == TopUpState.FINAL
        return topup

    async def finalized(self) -> None:
        """All that happened is final, and the observer has seen it."""
        await self.local.mine(3)
        await self.process.observe()

    async def spend(self, topup: TopUp, amount: int) -> None:
        """A call takes so many micro-credits."""
        price = MicroCredits(amount)
        usage = Usage(topup.customer_id, "ai_analyst", 1_000_000, price, "test")
        key = secrets.token_bytes(16)
        await self.process.db.write(
            lambda session: charge(session, usage, idempotency_key=key)
        )

    async def hold(self, topup: TopUp, amount: int) -> int:
        placed = await self.process.db.write(
            lambda session: holds.place(
                session,
                topup.customer_id,
                "ai_analyst",
                MicroCredits(amount),
                lifetime_seconds=60,
            )
        )
        assert placed is not None, "short"
        return placed.id

    async def propose(
        self, topup: TopUp, credits_back: int | None = None, operator: str = "ann"
    ) -> Payback:
        some = None if credits_back is None else MicroCredits(credits_back)
        wanted = Proposal(topup.id, operator, WHY, some)
        return await propose(self.process.db, self.process.rail, wanted)

    async def cancel(self, payback: Payback, **more: Any) -> Payback:
        wanted = Cancelling(payback.id, "bob", "a mistake", **more)
        return await cancel(self.process.db, self.process.rail, wanted)

    async def payback(self, payback: Payback) -> Payback:
        """As it is now."""
        async with self.process.db.read() as session:
            return await read_payback(session, payback.id)

    def signature(self, payback: Payback, wallet: Wallet | None = None) -> bytes:
        """What a wallet answers to the page's request, the seller's unless told."""
        request = typed_data(self.process.rail.domain, authorization_of(payback))
        document = json.loads(json.dumps(request))
        signable = encode_typed_data(full_message=document)
        key = (wallet or self.seller).key
        return bytes(Account.sign_message(signable, key).signature)

    async def submit(self, payback: Payback, signature: bytes) -> bytes:
        """Somebody hands the signed authorization to the chain; its transaction."""
        call = settlement_call(authorization_of(payback), signature)
        found = await pool(self.local, b"\x5a" * 20, call)
        await self.local.mine()
        return found

    async def execute(self, batch: dict[str, Any]) -> list[bytes]:
        """The Safe's owners execute the batch; the transactions."""
        done = []
        for one in batch["transactions"]:
            values = one["contractInputsValues"]
            call = transfer_call(octets(values["to"]), int(values["value"]))
            token, safe = octets(one["to"]), self.seller.address
            done.append((await self.local.send(safe, token, call)).tx_hash)
        return done

    async def dollars(self, address: bytes) -> int:
        return await balance_of(self.local.chain, address)

    async def holds(self, address: bytes, usdc: int) -> None:
        """Wait until an address has so much: the node answers before it has mined."""
        for _ in range(500):
            if await self.dollars(address) == usdc:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"it has {await self.dollars(address)}")

    async def booked(self, account: chart.AccountName) -> int:
        async with self.process.db.read() as session:
            return await net_debits(session, account)

    @property
    def treasury(self) -> chart.AccountName:
        rail = self.process.rail
        return chart.treasury(rail.network, rail.domain.contract)

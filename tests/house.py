"""One server process without its loops: its verbs are called by hand, in any order.

Two of them on one database are two processes; one that is opened after another was
left alone is a restart.
"""

import asyncio
import secrets
from dataclasses import dataclass, field, replace
from typing import Any

from eth_account import Account
from sqlmodel import col, select

from tallystick.audit import AuditReport, audit
from tallystick.catalog.load import load_catalog
from tallystick.chain.local import KEYS, LocalChain
from tallystick.chain.rpc import Chain
from tallystick.customers.wallets import customer_of_wallet
from tallystick.identity.wallet_sign_in import WalletSignIn
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, open_database
from tallystick.kernel.ids import decode_id
from tallystick.kernel.money import MicroCredits, UsdcAtomic
from tallystick.kernel.seal import Seal
from tallystick.ledger.balances import customer_balance
from tallystick.payments.errors import SettlementPending
from tallystick.payments.facilitated import attempts_for
from tallystick.payments.gas.costs import settle_gas
from tallystick.payments.gas.solvency import check_budgets, check_gas
from tallystick.payments.models.topups import (
    OPEN_STATES,
    RelayedTransaction,
    SettleAttempt,
    TopUp,
    TopUpState,
)
from tallystick.payments.observer import observe
from tallystick.payments.observing.matching import Rate
from tallystick.payments.presented import Presented, money_of, terms_of
from tallystick.payments.quotes import Quote, seal_quote
from tallystick.payments.rail import Rail, Relayer
from tallystick.payments.relaying.leases import release_leases
from tallystick.payments.relaying.nonces import register_relayers
from tallystick.payments.relaying.pushing import push_keys
from tallystick.payments.settler import step
from tallystick.payments.topups import read_topup
from tallystick.paywall.buy import Order, settle
from tallystick.paywall.gate import Gate
from tallystick.paywall.offers import Offers
from tallystick.running import open_rail
from tallystick.workers.crew import Crew
from tallystick.workers.settling import begin_due
from tallystick.x402.networks import NETWORKS
from tallystick.x402.wire import (
    AcceptedTerms,
    Authorization,
    PaymentPayload,
    TokenDomain,
)
from tests.chain.payer import Authorization as Signable
from tests.chain.payer import address_of, cancel_call, sign, transfer_call

DOLLAR = 1_000_000
HOLD_SECONDS = 60
LEASE_SECONDS = 10
RATE = Rate("test", lambda usdc: MicroCredits(usdc * 10))


def relayer(number: int) -> Relayer:
    return Relayer(address_of(KEYS[number]), KEYS[number])


@dataclass
class Wallet:
    """Somebody with test dollars and a key."""

    local: LocalChain
    key: bytes = field(default_factory=lambda: bytes(Account.create().key))

    @property
    def address(self) -> bytes:
        return address_of(self.key)

    async def fund(self, usdc: int = 100 * DOLLAR) -> "Wallet":
        await self.local.mint(self.address, UsdcAtomic(usdc))
        return self

    async def authorize(
        self,
        pay_to: bytes,
        usdc: int = DOLLAR,
        *,
        seconds: int = 90,
        nonce: bytes | None = None,
    ) -> tuple[Authorization, bytes]:
        """An authorization that is valid for so many seconds of the chain's time."""
        head = await self.local.chain.block("latest")
        assert head is not None
        terms = Signable(
            self.address,
            pay_to,
            usdc,
            valid_before=head.timestamp_seconds + seconds,
            nonce=nonce or secrets.token_bytes(32),
        )
        signed = Authorization(
            terms.payer,
            terms.pay_to,
            terms.value,
            terms.valid_after,
            terms.valid_before,
            terms.nonce,
        )
        return signed, sign(self.local, self.key, terms)

    async def send(self, to: bytes, usdc: int) -> None:
        """A plain transfer, without any authorization."""
        await self.local.send(self.address, self.local.token, transfer_call(to, usdc))

    async def cancel(self, nonce: bytes) -> None:
        call = cancel_call(self.local, self.key, nonce)
        await self.local.send(self.address, self.local.token, call)


@dataclass
class Process:
    """What a server process has open, and what its workers would do."""

    db: Database
    gate: Gate
    renew_at_ms: int = 0

    @property
    def rail(self) -> Rail:
        return self.gate.rail

    async def close(self) -> None:
        if self.rail.facilitator is not None:
            await self.rail.facilitator.close()
        await self.db.close()
        await self.rail.close()

    def present(
        self, signed: tuple[Authorization, bytes], *, credits_bought: int | None = None
    ) -> Presented:
        """The payment as the edge hands it on, checked and quoted."""
        authorization, signature = signed
        quote = Quote(
            binding="00" * 16,
            catalog_version="test",
            usdc=UsdcAtomic(authorization.value),
            credits=MicroCredits(credits_bought or authorization.value * 10),
            bonus=MicroCredits(0),
            charge=MicroCredits(0),
            purpose="credits",
            expires_at=2**40,
            pay_to=authorization.pay_to.hex(),
        )
        money = money_of(self.rail, authorization, quote.binding)
        return Presented(authorization, signature, quote, money)

    async def claim(self, signed: tuple[Authorization, bytes]) -> int:
        """Present the payment and go away; the top-up that it became."""
        presented = self.present(signed)
        offers = Offers([presented.quote], [presented.quote])
        order = Order(offers, caller_id=None, wait_ms=0)
        try:
            bought = await settle(self.gate, order, presented)
        except SettlementPending as pending:
            return decode_id("top", pending.topup)
        return bought.topup.id

    async def keep_keys(self) -> None:
        """Renew the leases when it is time, as the worker does all along."""
        now = self.db.clock.now_ms()
        known = all(self.rail.sequence(one).is_ours for one in self.rail.relayers)
        if not known or now >= self.renew_at_ms:
            await register_relayers(self.db, self.rail)
            self.renew_at_ms = now + LEASE_SECONDS * 1000 // 3

    async def let_go(self) -> None:
        """Give the keys back, as an orderly stop does."""
        await release_leases(self.db, self.rail)

    async def step(self, topup_id: int, times: int = 1) -> TopUp:
        for _ in range(times):
            await self.keep_keys()
            await step(self.db, self.rail, topup_id, hold_seconds=HOLD_SECONDS)
        return await self.topup(topup_id)

    async def until(self, topup_id: int, *states: TopUpState) -> TopUp:
        """Look again and again until the top-up is in one of the states.

        The node answers before it has mined, so a single look proves little.
        """
        for _ in range(200):
            topup = await self.step(topup_id)
            if topup.state in states:
                return topup
            await asyncio.sleep(0.01)
        raise AssertionError(f"the top-up stays {topup.state}")

    async def settle(self, topup_id: int) -> TopUp:
        """Look until the outcome is known."""
        return await self.until(topup_id, *(set(TopUpState) - set(OPEN_STATES)))

    async def settle_due(self) -> int:
        """One look at every top-up that is due; how many there were."""
        await self.keep_keys()
        crew = Crew(64)
        begun = await begin_due(self.db, self.rail, crew, hold_seconds=HOLD_SECONDS)
        await crew.all_end()
        return begun

    async def observe(self) -> int:
        return await observe(self.db, self.rail, RATE, hold_seconds=HOLD_SECONDS)

    async def tend(self) -> None:
        """What goes on for the relayer keys."""
        await self.keep_keys()
        await check_gas(self.rail)
        await push_keys(self.db, self.rail)
        await settle_gas(self.db, self.rail)
        await check_budgets(self.db, self.rail)

    async def topup(self, topup_id: int) -> TopUp:
        async with self.db.read() as session:
            return await read_topup(session, topup_id)

    async def topups(self) -> list[TopUp]:
        async with self.db.read() as session:
            return list((await session.exec(select(TopUp))).all())

    async def sent(self, topup_id: int) -> list[RelayedTransaction]:
        """Everything that was signed for the top-up."""
        query = select(RelayedTransaction).where(
            col(RelayedTransaction.topup_id) == topup_id
        )
        query = query.order_by(col(RelayedTransaction.signed_at_ms))
        async with self.db.read() as session:
            return list((await session.exec(query)).all())

    async def asked(self, topup_id: int) -> list[SettleAttempt]:
        """Everything that a facilitator was asked for the top-up."""
        async with self.db.read() as session:
            return await attempts_for(session, topup_id)

    async def credits_of(self, wallet: Wallet) -> int:
        """What the wallet's customer may spend, in micro-credits."""
        async with self.db.read() as session:
            customer_id = await customer_of_wallet(session, wallet.address)
            return (await customer_balance(session, customer_id or 0)).available

    async def audit(self) -> AuditReport:
        await self.observe()
        return await audit(self.db, self.rail)


@dataclass
class House:
    """One installation: a database, an address that is paid, and its processes."""

    local: LocalChain
    database_url: str
    start_block: int | None
    clock: OffsetClock
    pay_to: bytes = field(default_factory=lambda: secrets.token_bytes(20))
    seal: Seal = field(default_factory=lambda: Seal(secrets.token_bytes(32)))
    processes: list[Process] = field(default_factory=list)
    is_sound: bool = True

    async def start(
        self,
        *rpc_urls: str,
        relayers: tuple[Relayer, ...] = (relayer(1),),
        **more: Any,
    ) -> Process:
        """A process, started as the app starts one; its loops do not run."""
        chain = self.local.open_chain(*rpc_urls)
        rail = self._rail(chain, relayers, **more)
        shelf = load_catalog("x402_credits")
        db = open_database(self.database_url, self.clock)
        gate = Gate(
            db=db,
            rail=rail,
            seal=self.seal,
            sign_in=WalletSignIn("http://shop.test", chain, self.seal, self.clock),
            catalog=lambda: shelf,
            public_url="http://shop.test",
            hold_seconds=HOLD_SECONDS,
        )
        process = Process(db, gate)
        self.processes.append(process)
        await db.start()
        await open_rail(gate)
        return process

    async def restart(self, *rpc_urls: str, **more: Any) -> Process:
        """A process after one that was left alone: its leases have lapsed by then."""
        self.clock.advance(LEASE_SECONDS + 1)
        return await self.start(*rpc_urls, **more)

    def _rail(self, chain: Chain, relayers: tuple[Relayer, ...], **more: Any) -> Rail:
        usdc = NETWORKS["eip155:84532"].usdc
        domain = TokenDomain(usdc.chain_id, usdc.contract, usdc.name, usdc.version)
        values: dict[str, Any] = {
            "start_block": self.start_block,
            "poll_seconds": 0.05,
            "resend_seconds": 0.0,
            "lease_seconds": LEASE_SECONDS,
        }
        return Rail(chain, domain, self.pay_to, relayers, self.clock, **values | more)

    async def stop(self) -> None:
        for process in self.processes:
            await process.close()


PAID = (TopUpState.CREDITED, TopUpState.SAFE, TopUpState.FINAL)


async def payload_for(
    rail: Rail, wallet: Wallet, quote: Quote, seal: Seal
) -> PaymentPayload:
    """What a client of version 2 sends for a quote that names the rail's address."""
    quote = replace(quote, pay_to=rail.pay_to.hex())
    signed, signature = await wallet.authorize(rail.pay_to, quote.usdc)
    terms = terms_of(rail, quote, seal_quote(seal, quote))
    accepted = AcceptedTerms(
        "exact",
        terms.network,
        terms.amount,
        terms.asset,
        terms.pay_to,
        terms.max_timeout_seconds,
        terms.full_extra(),
    )
    return PaymentPayload(2, "exact", terms.network, signed, signature, accepted)

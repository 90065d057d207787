"""A stock client goes shopping: it pays once, and then spends what it has bought.

The client is not ours, so every figure that it reports is compared with what the price
list says, and every payment with the chain's own Transfer.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tallystick.chain import abi
from tallystick.chain.logs import receipt
from tallystick.demo.clients import Reply, Request, StockClient
from tallystick.demo.errors import StoryBroke, expect
from tallystick.demo.offers import Offered, read_offer
from tallystick.demo.stage import Stage
from tallystick.demo.telling import Record, Teller, credits_of, short
from tallystick.demo.wallet import Wallet
from tallystick.kernel import json
from tallystick.kernel.money import format_usdc, to_decimal
from tallystick.x402.keccak import checksum_address

ADD_PATH = "/api/credits/add"
_PACK = "pack_5"
_PACK_USD = 5
_WAIVED_CALLS = 9
PACK_BODY = f'{{"pack":"{_PACK}"}}'


@dataclass
class Shopper:
    """One wallet with its client, and what it should have left in micro-credits."""

    stage: Stage
    teller: Teller
    record: Record
    client: StockClient
    wallet: Wallet
    credit_price_usd: Decimal
    credits: int = 0
    transactions: list[str] = field(default_factory=list)

    def report_path(self, about: str | None = None) -> str:
        """The call that costs one credit; about the dollar itself unless told."""
        return f"/features/ai_analyst?address={about or self._dollar}"

    @property
    def _dollar(self) -> str:
        return checksum_address(self.stage.local.token)

    async def go(self) -> None:
        """The whole round; raises ``StoryBroke`` at the first thing that is off."""
        await self._enter()
        await self._call_free()
        await self._pay_first()
        await self._spend()
        await self._audit_portfolio()
        await self._buy_pack()

    async def go_briefly(self) -> None:
        """One paid call, and no more."""
        await self._enter()
        await self._pay_first()

    async def _enter(self) -> None:
        self.teller.act(f"{self.client.title}: wallet {self.wallet.shown}")
        usdc = await self.stage.usdc_of(self.wallet)
        ether = await self.stage.local.chain.native_balance(self.wallet.address)
        expect("ether of the wallet", ether, 0)
        self.teller.line("it holds", f"{format_usdc(usdc)} USDC, and no ether for gas")

    async def _call_free(self) -> None:
        path = f"/features/honeypot_check?token={self._dollar}"
        reply = await self._ask(path)
        expect("a free feature answers", (reply.status, reply.signed), (200, ()))
        self.record.called("honeypot_check", 200, Decimal(0), None)
        self.teller.line("GET /features/honeypot_check", "200  free", "green")

    async def _pay_first(self) -> None:
        offered = await self._look("ai_analyst", self.report_path())
        before = await self.stage.usdc_of(self.wallet)
        reply = await self._ask(self.report_path())
        bought = await self._served("ai_analyst", reply, offered.required)
        after = await self.stage.usdc_of(self.wallet)
        expect("what the wallet paid", before - after, offered.amounts[0])
        self._tell_paid("the client pays, and is answered", bought, after)

    async def _spend(self) -> None:
        before = await self.stage.usdc_of(self.wallet)
        seller_before = await self.stage.usdc_of(self.stage.pay_to)
        request = Request(self._url(self.report_path()), repeat=_WAIVED_CALLS)
        async with aclosing(self._replies(request)) as replies:
            async for reply in replies:
                bought = await self._served("ai_analyst", reply, 1_000_000)
                expect("USDC taken for a waived call", bought, 0)
                left = f"1 charged, {credits_of(self.credits)} left"
                self.teller.line("the same client, unchanged", f"200  waived: {left}")
        after = await self.stage.usdc_of(self.wallet)
        seller = await self.stage.usdc_of(self.stage.pay_to)
        expect("USDC moved by waived calls", (before, seller_before), (after, seller))
        self.teller.note(
            f"No USDC moved: the wallet had {format_usdc(before)} before these"
            f" {_WAIVED_CALLS} calls and has {format_usdc(after)} now."
        )

    async def _audit_portfolio(self) -> None:
        tokens = [self.stage.local.token, *self.stage.tokens]
        shown = [checksum_address(token) for token in tokens]
        wanted = {"owner": self.wallet.shown, "tokens": shown}
        path, body = "/features/portfolio_audit", json.dumps(wanted).decode()
        offered = await self._look("portfolio_audit", path, body)
        if self.credits >= offered.required:
            raise StoryBroke(f"{self.credits} micro-credits were not too few")
        reply = await self._ask(path, body=body)
        bought = await self._served("portfolio_audit", reply, offered.required)
        expect("tokens in the report", len(reply.body["holdings"]), len(tokens))
        usdc = await self.stage.usdc_of(self.wallet)
        self._tell_paid("the client pays, and is answered", bought, usdc)
        held, risky = reply.body["tokens_held"], reply.body["high_risk_tokens"]
        self.teller.note(
            f"The report: {len(tokens)} tokens, {held} of them held, {risky} risky."
        )

    async def _buy_pack(self) -> None:
        offered = await self._offer(ADD_PATH, PACK_BODY)
        self.teller.line(f"POST {ADD_PATH} {_PACK}", f"402  {offered.shown}", "yellow")
        before = await self.stage.usdc_of(self.wallet)
        refused = await self._ask(ADD_PATH, body=PACK_BODY)
        expect("a payment above the client's own cap", refused.status, 0)
        expect("USDC after the refusal", await self.stage.usdc_of(self.wallet), before)
        self.teller.line(
            "the client refuses", "it pays at most $1 unless told otherwise"
        )
        reply = await self._ask(ADD_PATH, body=PACK_BODY, max_usd=_PACK_USD)
        expect("the pack is sold", reply.status, 200)
        bought = await self._bought(reply)
        self.credits += bought
        expect("credits added", reply.body["added"], to_decimal(bought))
        expect("credits then", reply.body["credits"], to_decimal(self.credits))
        usdc = await self.stage.usdc_of(self.wallet)
        self._tell_paid(f"its owner allows ${_PACK_USD}: it pays", bought, usdc)

    def _tell_paid(self, left: str, bought: int, usdc: int) -> None:
        paid = self.record.payments[-1]
        self.teller.line(
            left,
            f"200  paid ${paid['amount_usdc']:.2f} for {credits_of(bought)};"
            f" {credits_of(self.credits)} left",
            "green",
        )
        self.teller.note(f"{paid['tx']}")
        self.teller.note(f"The wallet has {format_usdc(usdc)} USDC now.")

    async def _look(self, feature: str, path: str, body: str | None = None) -> Offered:
        """What somebody without a payment is told."""
        offered = await self._offer(path, body)
        self.record.called(feature, 402, Decimal(0), None)
        verb = "GET" if body is None else "POST"
        cost = credits_of(offered.required)
        shown = f"402  costs {cost}; {offered.shown}"
        self.teller.line(f"{verb} /features/{feature}", shown, "yellow")
        return offered

    async def _offer(self, path: str, body: str | None) -> Offered:
        method = "GET" if body is None else "POST"
        headers = {} if body is None else {"Content-Type": "application/json"}
        answer = await self.stage.http.request(
            method, path, content=body, headers=headers
        )
        return read_offer(answer)

    def _url(self, path: str) -> str:
        return f"{self.stage.url}{path}"

    def _replies(self, request: Request) -> AsyncGenerator[Reply, None]:
        return self.client.ask(self.wallet, request, self.stage.folder / "clients.log")

    async def _ask(self, path: str, **more: Any) -> Reply:
        async with aclosing(self._replies(Request(self._url(path), **more))) as found:
            replies = [reply async for reply in found]
        return replies[0]

    async def _served(self, feature: str, reply: Reply, cost: int) -> int:
        """Check a served call; the micro-credits that its payment bought."""
        if reply.status != 200:
            raise StoryBroke(
                f"{feature} answers {reply.status}: {reply.error or reply.body}"
            )
        bought = await self._bought(reply)
        self.credits += bought - cost
        charged = reply.credits_header("credits-charged")
        remaining = reply.credits_header("credits-remaining")
        expect(f"credits charged for {feature}", charged, to_decimal(cost))
        expect(f"credits after {feature}", remaining, to_decimal(self.credits))
        self.record.called(feature, 200, to_decimal(cost), remaining)
        return bought

    async def _bought(self, reply: Reply) -> int:
        """What the reply's payment bought; 0 for one that was waived."""
        payment = reply.payment
        if payment is None or payment["success"] is not True:
            raise StoryBroke(f"the payment was not taken: {payment}")
        amount, tx = int(payment["amount"]), str(payment["transaction"])
        if amount == 0:
            expect("the transaction of a waived payment", tx, "")
            return 0
        await self._seen_on_chain(tx, amount)
        bought = int(amount / self.credit_price_usd)
        self.transactions.append(tx)
        self.record.paid(tx, amount, bought)
        return bought

    async def _seen_on_chain(self, tx: str, amount: int) -> None:
        chain = self.stage.local.chain
        found = await receipt(chain, bytes.fromhex(tx.removeprefix("0x")))
        topics = (
            abi.TRANSFER,
            abi.word(self.wallet.address),
            abi.word(self.stage.pay_to.address),
        )
        moved = [
            int.from_bytes(log.payload, "big")
            for log in (found.logs if found else ())
            if (log.address, log.topics) == (chain.token, topics)
        ]
        expect(f"what {short(tx)} moved on chain", moved, [amount])

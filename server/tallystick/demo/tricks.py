"""What a thief might try: each try is refused, or gets what was given before.

The thief has what everybody has: the chain. A settled payment is public there, so it
must be of no use to whoever copies it.
"""

from dataclasses import dataclass
from decimal import Decimal

import httpx

from tallystick.chain.abi import SELECTOR_BYTES, TRANSFER_WITH_VRS, WORD_BYTES
from tallystick.chain.hexadecimal import octets
from tallystick.demo.errors import expect
from tallystick.demo.offers import Offered, read_offer
from tallystick.demo.shopping import ADD_PATH, PACK_BODY, Shopper
from tallystick.demo.signing_in import credits_left
from tallystick.demo.telling import credits_of
from tallystick.demo.wallet import Wallet, payment_header
from tallystick.kernel import json
from tallystick.kernel.money import to_decimal
from tallystick.x402.headers import PAYMENT_SIGNATURE
from tallystick.x402.wire import Authorization

_ONE_CREDIT = 1_000_000


@dataclass(frozen=True)
class Tricks:
    """Somebody plays tricks with a wallet; ``key`` reads what the wallet has left."""

    shopper: Shopper
    key: str

    async def play(self) -> None:
        """All of them; raises ``StoryBroke`` if one has worked."""
        self.shopper.teller.act("Somebody wants something for nothing")
        await self._false_signature()
        await self._sent_twice()
        await self._copied_call()
        await self._copied_purchase()
        left = credits_of(self.shopper.credits)
        self.shopper.teller.note(f"The wallet still has {left}.")

    async def _false_signature(self) -> None:
        offered = await self._offered()
        stranger = Wallet.new()
        header = stranger.pay(offered.accepts[0], payer=self.shopper.wallet.address)
        answer = await self._call(header)
        expect("a payment that somebody else signed", answer.status_code, 402)
        why = json.loads(answer.content)["error"]
        self._tell("a false signature", f"402  {why}")
        await self._require_credits(answer, charged=0)

    async def _sent_twice(self) -> None:
        offered = await self._offered()
        header = self.shopper.wallet.pay(offered.accepts[0])
        first = await self._call(header)
        expect("a payment of the wallet itself", first.status_code, 200)
        await self._require_credits(first, charged=_ONE_CREDIT)
        again = await self._call(header)
        expect("the copy is answered", again.status_code, 200)
        expect("the copy's answer", again.content, first.content)
        expect("marked", again.headers.get("idempotency-replayed"), "true")
        await self._require_credits(again, charged=0)
        self._tell("a payment sent twice", "200  the first answer again, charged once")
        elsewhere = await self._call(header, about=self.shopper.wallet.shown)
        expect("the copy for another call", elsewhere.status_code, 409)
        await self._require_credits(elsewhere, charged=0)
        self._tell("the same for another call", f"409  {_code(elsewhere)}")

    async def _copied_call(self) -> None:
        offered = await self._offered()
        header = await self._from_chain(self.shopper.transactions[0], offered)
        answer = await self._call(header)
        expect("a payment copied from the chain", answer.status_code, 409)
        await self._require_credits(answer, charged=0)
        self._tell("a payment copied from the chain", f"409  {_code(answer)}")

    async def _copied_purchase(self) -> None:
        offered = read_offer(await self._buy({}))
        bought = self.shopper.transactions[-1]
        header = await self._from_chain(bought, offered)
        answer = await self._buy({PAYMENT_SIGNATURE: header})
        expect("the pack's payment copied from the chain", answer.status_code, 200)
        expect("marked", answer.headers.get("idempotency-replayed"), "true")
        told = json.loads(answer.content)
        expect("whose top-up it tells of", told["topup"]["transaction"], bought)
        expect("a balance in the answer", told.get("credits"), None)
        await self._require_left()
        self._tell("the pack's payment, copied", "200  the first purchase, no credits")

    async def _offered(self) -> Offered:
        path = self.shopper.report_path()
        return read_offer(await self.shopper.stage.http.get(path))

    async def _call(self, header: str, about: str | None = None) -> httpx.Response:
        path = self.shopper.report_path(about)
        headers = {PAYMENT_SIGNATURE: header}
        return await self.shopper.stage.http.get(path, headers=headers)

    async def _buy(self, headers: dict[str, str]) -> httpx.Response:
        return await self.shopper.stage.http.post(
            ADD_PATH,
            content=PACK_BODY,
            headers={"Content-Type": "application/json", **headers},
        )

    async def _from_chain(self, tx: str, offered: Offered) -> str:
        """The payment header again, from the calldata that everybody can read."""
        local = self.shopper.stage.local
        found = await local.rpc("eth_getTransactionByHash", tx)
        calldata = octets(found["input"])
        expect("the function called", calldata[:SELECTOR_BYTES], TRANSFER_WITH_VRS)
        rest = calldata[SELECTOR_BYTES:]
        words = [
            rest[start : start + WORD_BYTES]
            for start in range(0, len(rest), WORD_BYTES)
        ]
        signed = Authorization(
            payer=words[0][-20:],
            pay_to=words[1][-20:],
            value=int.from_bytes(words[2], "big"),
            valid_after=int.from_bytes(words[3], "big"),
            valid_before=int.from_bytes(words[4], "big"),
            nonce=words[5],
        )
        v, r, s = words[6], words[7], words[8]
        return payment_header(offered.accepts[0], signed, r + s + v[-1:])

    async def _require_credits(self, answer: httpx.Response, *, charged: int) -> None:
        """Note the call, and that the wallet lost just what was charged."""
        self.shopper.credits -= charged
        remaining = to_decimal(self.shopper.credits) if charged else None
        self.shopper.record.called(
            "ai_analyst", answer.status_code, to_decimal(charged), remaining
        )
        if "idempotency-replayed" not in answer.headers:
            # A copy of an answer shows the first one's receipt and charges nothing.
            told = answer.headers.get("credits-charged", "0")
            expect("credits charged", Decimal(told), to_decimal(charged))
        await self._require_left()

    async def _require_left(self) -> None:
        left = await credits_left(self.shopper.stage, self.key)
        expect("what the wallet has left", left, self.shopper.credits)

    def _tell(self, left: str, right: str) -> None:
        self.shopper.teller.line(left, right)


def _code(answer: httpx.Response) -> str:
    return str(json.loads(answer.content)["code"])

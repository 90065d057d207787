"""The judge of ``payments``: the notes, the books and the chain, and nothing else.

    python -m soak.payments_judge NOTES DATABASE_URL NODE_URL

Prints one JSON object and exits with 1 unless everything adds up. The chain is asked
for every Transfer first; what it says is the truth that the other two are held against.
"""

import asyncio
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soak.payments_notes import Told
from tallystick.audit import audit
from tallystick.chain.evidence import TransferLog, transfers_to
from tallystick.chain.logs import receipt
from tallystick.chain.permit2 import PERMIT2
from tallystick.chain.rpc import Chain
from tallystick.kernel.clock import SystemClock
from tallystick.kernel.db import Database, open_database, query
from tallystick.kernel.ids import decode_id, encode_id
from tallystick.payments.rail import Rail
from tallystick.x402.networks import NETWORKS
from tallystick.x402.wire import TokenDomain

_NETWORK = "eip155:84532"
_PAID = {"credited", "safe", "final"}
_REFUSED = {"rejected", "expired", "canceled"}
_PATIENT_SECONDS = 60
_RATE = 10  # micro-credits for an atomic unit, by the catalog: a credit costs 0.10
_TOPUPS = "SELECT id, payer, nonce, value, credits, state, customer_id FROM topup"
_TRANSFERS = """
    SELECT tx_hash, log_index, value, topup_id FROM chain_transfer
     WHERE presence = 'booked'
"""
_GRANTS = """
    SELECT granted.reference, credit_grant.amount, credit_grant.cost_amount
      FROM credit_grant
      JOIN ledger_transaction AS granted
        ON granted.id = credit_grant.ledger_transaction_id
     WHERE credit_grant.cost_asset IS NOT NULL AND NOT EXISTS (
           SELECT 1 FROM ledger_transaction AS taken
            WHERE taken.reverses_id = granted.id)
"""
_CHARGES = """
    SELECT wallet.address, COUNT(DISTINCT ledger_transaction.id) AS charges
      FROM ledger_transaction
      JOIN transfer ON transfer.ledger_transaction_id = ledger_transaction.id
      JOIN ledger_account ON ledger_account.id = transfer.debit_account_id
      JOIN wallet ON wallet.customer_id = ledger_account.customer_id
     WHERE ledger_transaction.kind IN ('charge', 'capture')
     GROUP BY wallet.address
"""
_RELAYER = "SELECT address, next_nonce FROM relayer"
_SENT = "SELECT tx_hash, evm_nonce FROM relayed_transaction"


@dataclass(frozen=True)
class House:
    """Whose books they are, and where they begin."""

    pay_to: str
    start_block: int


def rail_of(house: House, node: str) -> Rail:
    """A rail that settles nothing: it has no key."""
    usdc = NETWORKS[_NETWORK].usdc
    domain = TokenDomain(usdc.chain_id, usdc.contract, usdc.name, usdc.version)
    chain = Chain(
        [node],
        chain_id=usdc.chain_id,
        token=usdc.contract,
        timeout_seconds=_PATIENT_SECONDS,
    )
    pay_to = bytes.fromhex(house.pay_to[2:])
    start = house.start_block
    return Rail(chain, domain, pay_to, (), SystemClock(), start_block=start)


@dataclass
class _Books:
    """What the database says, as it stands."""

    topups: dict[int, dict[str, Any]]
    transfers: dict[tuple[bytes, int], dict[str, Any]]
    grants: dict[str, list[dict[str, Any]]]
    charges: dict[str, int]
    relayers: list[dict[str, Any]]
    sent: list[dict[str, Any]]


async def _read_books(db: Database) -> _Books:
    async with db.read() as session:
        topups = await query(session, _TOPUPS)
        transfers = await query(session, _TRANSFERS)
        grants: dict[str, list[dict[str, Any]]] = {}
        for row in await query(session, _GRANTS):
            grants.setdefault(row["reference"], []).append(dict(row))
        charges = await query(session, _CHARGES)
        relayers, sent = await query(session, _RELAYER), await query(session, _SENT)
    places = {(bytes(one["tx_hash"]), one["log_index"]): dict(one) for one in transfers}
    return _Books(
        {row["id"]: dict(row) for row in topups},
        places,
        grants,
        {"0x" + bytes(one["address"]).hex(): one["charges"] for one in charges},
        [dict(one) for one in relayers],
        [dict(one) for one in sent],
    )


@dataclass
class _Judgement:
    """Counts, and for each of them what was found, for whoever looks into it."""

    payments: int = 0
    honest: int = 0
    honest_served: int = 0
    permits_paid: int = 0
    permits_meant: int = 0
    permits_served: int = 0
    attacks: int = 0
    accepted: int = 0
    lost: int = 0
    double: int = 0
    findings: list[str] = field(default_factory=list)

    def find(self, kind: str, what: str) -> None:
        """Something is wrong; ``kind`` is a count, or ``findings`` alone."""
        if kind != "findings":
            setattr(self, kind, getattr(self, kind) + 1)
        self.findings.append(f"{kind}: {what}" if kind != "findings" else what)

    @property
    def ok(self) -> bool:
        # A run without a permit proves nothing of permits.
        return not self.findings and min(self.payments, self.permits_paid) > 0


def _judge_money(one: _Judgement, books: _Books, seen: list[TransferLog]) -> None:
    """The sum of all Transfers is what was credited, or is in suspense."""
    on_chain = {(log.tx_hash, log.log_index): log for log in seen}
    by_nonce = Counter((log.payer, log.nonce) for log in seen if log.nonce)
    one.payments = len(seen)
    one.permits_paid = sum(log.authority == PERMIT2 for log in seen)
    for place, log in on_chain.items():
        booked = books.transfers.get(place)
        where = f"0x{place[0].hex()} log {place[1]}"
        if booked is None or booked["value"] != log.amount:
            one.find("lost", f"the Transfer {where} of {log.amount} is not booked")
    for place in books.transfers.keys() - on_chain.keys():
        one.find("accepted", f"the chain has no Transfer 0x{place[0].hex()}")
    for (payer, nonce), count in by_nonce.items():
        if count > 1:
            one.find(
                "double", f"0x{payer.hex()} paid {count} times with 0x{nonce.hex()}"
            )
    credited = sum(
        grant["cost_amount"] for found in books.grants.values() for grant in found
    )
    suspended = sum(
        row["value"] for row in books.transfers.values() if row["topup_id"] is None
    )
    received = sum(log.amount for log in seen)
    if credited + suspended != received:
        one.find(
            "findings",
            f"received {received}, credited {credited}, in suspense {suspended}",
        )


def _judge_topups(one: _Judgement, books: _Books, seen: list[TransferLog]) -> None:
    """Each settled payment has one top-up, and each of these one grant."""
    paid = {(log.payer, log.nonce): log.amount for log in seen if log.nonce}
    for topup_id, topup in books.topups.items():
        name = f"{encode_id('top', topup_id)} ({topup['state']})"
        moved = paid.get((bytes(topup["payer"]), bytes(topup["nonce"])))
        granted = books.grants.get(f"topup:{topup_id}", [])
        if topup["state"] in _PAID:
            if moved != topup["value"]:
                one.find("accepted", f"{name} is paid, the chain shows {moved}")
            if len(granted) != 1:
                kind = "double" if granted else "lost"
                one.find(kind, f"{name} has {len(granted)} grants")
            for grant in granted:
                if grant["amount"] != topup["value"] * _RATE:
                    one.find("findings", f"{name} was granted {grant['amount']}")
        else:
            if moved is not None:
                one.find("lost", f"{name} has its Transfer of {moved}")
            if granted:
                one.find("accepted", f"{name} has {len(granted)} grants")
            if topup["state"] not in _REFUSED:
                one.find("findings", f"{name} is not resolved")


def _judge_told(one: _Judgement, books: _Books, told: Told) -> None:
    """Whoever meant to pay was served, once, and what he was told is true."""
    meant, signed, refused = told.of("meant"), told.of("signed"), told.of("refused")
    served = told.of("credited") | told.of("served")
    one.honest, one.honest_served = len(meant), len(served)
    by_permit = {name for name, (event,) in meant.items() if event["by"] == "permit2"}
    one.permits_meant = len(by_permit)
    one.permits_served = len(by_permit & served.keys())
    for name, (event,) in meant.items():
        if name not in served:
            one.find("findings", f"{event['kind']} {name} was not served")
        if len(signed[name]) > 1:
            why = [refusal["reason"] for refusal in refused[name]]
            count = len(signed[name])
            words = f"{event['kind']} {name} was signed {count} times: {why}"
            one.find("findings", words)
    for event in told.all("credited"):
        topup = books.topups.get(decode_id("top", event["topup"]))
        if topup is None or topup["state"] not in _PAID:
            one.find("lost", f"{event['topup']} was told to be credited")
        elif "0x" + bytes(topup["nonce"]).hex() != event["nonce"].lower():
            one.find("findings", f"{event['topup']} was told of another payment")


def _judge_calls(one: _Judgement, books: _Books, told: Told) -> None:
    """No answer for nothing, and no call charged more often than it was signed."""
    payers = {event["meant"]: event["payer"].lower() for event in told.all("meant")}
    served = Counter(payers[event["served"]] for event in told.all("served"))
    attempts = Counter(payers[event["attempted"]] for event in told.all("attempted"))
    for payer in served.keys() | books.charges.keys():
        charges = books.charges.get(payer, 0)
        if served[payer] > charges:
            one.find("accepted", f"{payer} has {served[payer]} answers, {charges} paid")
        if charges > attempts[payer]:
            words = f"{payer} was charged {charges} of {attempts[payer]} calls"
            one.find("double", words)


def _judge_attacks(one: _Judgement, told: Told) -> None:
    for event in told.all("attack"):
        one.attacks += event["count"]
        for _ in range(event["accepted"]):
            one.find("accepted", f"{event['attack']}: {event.get('told')}")


def _judge_chaos(one: _Judgement, told: Told) -> None:
    for event in told.all("reorg"):
        for finding in event["findings"]:
            words = f"after {event['reorg']} blocks were replaced: {finding}"
            one.find("findings", words)
    for nonce in told.late:
        one.find("findings", f"not resolved 15 s after the node's return: {nonce}")
    for event in told.all("exposed"):
        if event["exposed"] > event["cap"] or event["most"] > event["each"]:
            one.find("findings", f"beyond a cap: {event}")
    for words in told.broken:
        one.find("findings", words)


async def _judge_nonces(one: _Judgement, books: _Books, rail: Rail) -> None:
    """No nonce was left open, so nothing that is signed later waits behind it."""
    for row in books.relayers:
        used = await rail.chain.nonce(bytes(row["address"]), "latest")
        if row["next_nonce"] > used:
            one.find("findings", f"nonces {used} to {row['next_nonce'] - 1} are open")
        later = [sent for sent in books.sent if sent["evm_nonce"] >= used]
        if later:
            one.find("findings", f"{len(later)} signed transactions were never mined")


async def judge(notes: Path, db: Database, node: str) -> _Judgement:
    """Compare all three."""
    told, one = Told(notes), _Judgement()
    rail = rail_of(House(**told.all("house")[0]["house"]), node)
    try:
        head = await rail.head()
        seen = await transfers_to(
            rail.chain, rail.pay_to, rail.start_block or 0, head.number
        )
        books = await _read_books(db)
        _judge_money(one, books, seen)
        _judge_topups(one, books, seen)
        _judge_told(one, books, told)
        _judge_calls(one, books, told)
        _judge_attacks(one, told)
        _judge_chaos(one, told)
        await _judge_nonces(one, books, rail)
        for found in (await audit(db, rail)).findings:
            one.find("findings", f"{found.invariant}: {found.detail}")
        await _tell_reverts(rail, books)
    finally:
        await rail.chain.close()
    return one


async def _tell_reverts(rail: Rail, books: _Books) -> None:
    receipts = [await receipt(rail.chain, bytes(one["tx_hash"])) for one in books.sent]
    mined = [one for one in receipts if one is not None]
    reverted = sum(not one.succeeded for one in mined)
    states = Counter(one["state"] for one in books.topups.values())
    words = (
        f"{len(mined)} of {len(receipts)} mined, {reverted} reverted; {dict(states)}"
    )
    print(f"… {words}", file=sys.stderr)


async def _main(notes: Path, url: str, node: str) -> _Judgement:
    db = open_database(url)
    try:
        return await judge(notes, db, node)
    finally:
        await db.close()


if __name__ == "__main__":
    judgement = asyncio.run(_main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
    print(json.dumps(vars(judgement)))
    sys.exit(0 if judgement.ok else 1)

"""The judge of ``crash``: reads the acknowledgements and the books, and nothing else.

    python -m soak.judge ACKNOWLEDGEMENTS DATABASE_URL

Prints one JSON object and exits with 1 unless everything adds up.
"""

import asyncio
import json
import sys
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path

from soak import acknowledgements
from tallystick.audit import audit
from tallystick.kernel.db import Database, open_database, query
from tallystick.kernel.ids import decode_id
from tallystick.kernel.money import parse_credits

_CHARGES = """
    SELECT ledger_transaction.id, ledger_account.customer_id, transfer.amount
      FROM ledger_transaction
      JOIN transfer ON transfer.ledger_transaction_id = ledger_transaction.id
      JOIN ledger_account ON ledger_account.id = transfer.debit_account_id
     WHERE ledger_transaction.kind = 'charge'
"""
_BALANCES = """
    SELECT customer_id, balance FROM account_balance
"""


@dataclass
class _Told:
    """What the clients were told; charges by key, micro-credits by charge."""

    began: dict[int, int] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    charges: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    amounts: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """``lost``: told and not in the books; ``double``: in the books more than once.

    ``unbalanced``: what the audit found, and balances that are not what they began
    with less what was charged. ``unanswered``: keys that nobody was told about.
    """

    acknowledged: int
    unanswered: int
    lost: int
    double: int
    unbalanced: int

    @property
    def ok(self) -> bool:
        return not (self.lost or self.double or self.unbalanced)


def _told(path: Path) -> _Told:
    told = _Told()
    for event in acknowledgements.read(path):
        if "credits" in event:
            customer = decode_id("cus", event["customer"])
            told.began[customer] = parse_credits(event["credits"])
        elif "asked" in event:
            told.asked[event["asked"]] = decode_id("cus", event["customer"])
        else:
            charge = decode_id("chg", event["charge"])
            told.charges[event["told"]].add(charge)
            told.amounts[charge] = parse_credits(Decimal(str(event["deducted"])))
    return told


async def judge(path: Path, db: Database) -> Verdict:
    """Compare what was told with what is booked."""
    told = _told(path)
    async with db.read() as session:
        charges = await query(session, _CHARGES)
        balances = await query(session, _BALANCES)
    booked = {row["id"]: row["amount"] for row in charges}
    spent: Counter[int] = Counter()
    for row in charges:
        spent[row["customer_id"]] += row["amount"]
    findings = (await audit(db, None)).findings
    for one in findings:
        print(f"{one.invariant}: {one.detail}", file=sys.stderr)
    return Verdict(
        acknowledged=len(told.charges),
        unanswered=len(told.asked) - len(told.charges),
        lost=sum(
            booked.get(charge) != amount for charge, amount in told.amounts.items()
        ),
        double=_double(told, charges=Counter(row["customer_id"] for row in charges)),
        unbalanced=len(findings)
        + sum(
            row["balance"]
            != told.began.get(row["customer_id"], 0) - spent[row["customer_id"]]
            for row in balances
        ),
    )


def _double(told: _Told, charges: Counter[int]) -> int:
    """Keys with several charges, and charges beyond the keys that were asked."""
    several = sum(len(ids) - 1 for ids in told.charges.values())
    asked = Counter(told.asked.values())
    beyond = sum(max(0, charges[one] - asked[one]) for one in charges)
    return several + beyond


async def _main(path: Path, url: str) -> Verdict:
    db = open_database(url)
    try:
        return await judge(path, db)
    finally:
        await db.close()


if __name__ == "__main__":
    verdict = asyncio.run(_main(Path(sys.argv[1]), sys.argv[2]))
    print(json.dumps(asdict(verdict)))
    sys.exit(0 if verdict.ok else 1)

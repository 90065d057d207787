"""Where books and chain differ: each Transfer by its log, each booking by its cause."""

from collections import defaultdict
from collections.abc import Mapping

from sqlmodel import col, select

from tallystick.chain.evidence import transfers_from, transfers_to
from tallystick.kernel.db import ReadSession, query
from tallystick.ledger import chart
from tallystick.ledger.findings import Finding
from tallystick.ledger.references import number_in
from tallystick.payments.models.chain import ChainOutflow, ChainTransfer, Presence
from tallystick.payments.observing.dust import Dust, all_dust
from tallystick.payments.observing.dust_rows import dust_reference
from tallystick.payments.observing.following import Movements
from tallystick.payments.rail import Rail
from tallystick.payments.reconciling.books import Log

I6 = "I6 the ledger's USDC equals the token's balance plus what was swept"
I16_IN = "I16 every Transfer to pay_to is in the ledger, and no other"
I16_OUT = "I16 every Transfer out of pay_to is in the ledger, and no other"
_MOST_NAMED = 20
_NEXT_STEPS = {
    "I5": "Run `tallystick audit`, which names the booking.",
    "I6": "Look the transaction up in a block explorer and with `tallystick audit`; keep"
    " a backup before anything is corrected.",
    "I15": "Run `tallystick audit` and compare with the last backup: somebody has"
    " written to the database.",
    "I16": "Compare the transaction with another node or a block explorer: if that shows"
    " it as the node did, the database was changed; if not, the node is wrong. What only"
    " the chain has is read again by itself, or by `tallystick rescan`.",
}
_BY_CAUSE = """
    SELECT reference,
           SUM(CASE WHEN debit_account_id = ledger_account.id
                    THEN amount ELSE -amount END) AS net
      FROM transfer
      JOIN ledger_account ON code = :code
       AND (debit_account_id = ledger_account.id
            OR credit_account_id = ledger_account.id)
      JOIN ledger_transaction ON ledger_transaction.id = ledger_transaction_id
     GROUP BY reference"""


def next_step(finding: Finding) -> str:
    """What an operator does about it (docs/operating.md)."""
    number = finding.invariant.partition(" ")[0]
    return _NEXT_STEPS.get(number, "Run `tallystick audit`.")


async def compare_logs(
    rail: Rail,
    table: Movements,
    first: int,
    last: int,
    ours: Mapping[Log, int],
    dust: Dust | None = None,
) -> list[Finding]:
    """A finding for each log of these blocks that chain and books tell otherwise.

    ``ours`` is what is booked of them, ``dust`` what has no rows of its own and counts
    here. Raises ``RpcUnavailable``.
    """
    if last < first:  # the observer has not begun
        seen = []
    elif table is ChainTransfer:
        seen = await transfers_to(rail.chain, rail.pay_to, first, last)
    else:
        seen = await transfers_from(rail.chain, rail.pay_to, first, last)
    theirs = {}
    for one in seen:
        at = (one.tx_hash, one.log_index)
        if at in ours or dust is None or not dust.takes(one):
            theirs[at] = one.amount
    invariant = I16_IN if table is ChainTransfer else I16_OUT
    differing = sorted(
        at for at in theirs.keys() | ours.keys() if theirs.get(at) != ours.get(at)
    )
    named = [
        Finding(
            invariant,
            f"0x{at[0].hex()} log {at[1]}: chain {theirs.get(at)},"
            f" ledger {ours.get(at)}",
        )
        for at in differing
    ]
    return named + ([] if dust is None else dust.findings())


async def misbooked(session: ReadSession, rail: Rail) -> list[str]:
    """Each transaction of which the ledger has another amount than its rows.

    It reads the whole journal, so it is asked only when the sums differ.
    """
    wanted, of_topup = await _in_rows(session, rail)
    found: dict[str, int] = defaultdict(int)
    code = chart.chain_assets(rail.network, rail.domain.contract).code
    for row in await query(session, _BY_CAUSE, code=code):
        found[_cause(row["reference"], of_topup)] += int(row["net"])
    differing = sorted(
        one
        for one in wanted.keys() | found.keys()
        if wanted.get(one, 0) != found.get(one, 0)
    )
    return [
        f"{one}: Transfers {wanted.get(one, 0)}, ledger {found.get(one, 0)}"
        for one in differing[:_MOST_NAMED]
    ]


async def _in_rows(
    session: ReadSession, rail: Rail
) -> tuple[dict[str, int], dict[int, str]]:
    wanted: dict[str, int] = defaultdict(int)
    of_topup = {}
    for table, sign in ((ChainTransfer, 1), (ChainOutflow, -1)):
        of_token = (
            col(table.chain_id) == rail.domain.chain_id,
            col(table.token) == rail.domain.contract,
            col(table.presence) != Presence.GONE,
        )
        rows = select(table.tx_hash, table.value).where(*of_token)
        for tx_hash, value in await session.exec(rows):
            wanted[_name(table, f"0x{bytes(tx_hash).hex()}")] += sign * value
    for one in await all_dust(session, rail):
        wanted[dust_reference(one.first_block, one.last_block)] += one.value
    paid = select(ChainTransfer.topup_id, ChainTransfer.tx_hash).where(
        col(ChainTransfer.topup_id).is_not(None),
        col(ChainTransfer.presence) != Presence.GONE,
    )
    for topup_id, tx_hash in await session.exec(paid):
        assert topup_id is not None
        of_topup[topup_id] = _name(ChainTransfer, f"0x{bytes(tx_hash).hex()}")
    return wanted, of_topup


def _name(table: Movements, tx_hash: str) -> str:
    return f"{'in' if table is ChainTransfer else 'out'} {tx_hash}"


def _cause(reference: str, of_topup: Mapping[int, str]) -> str:
    topup_id = number_in(reference, "topup")
    if topup_id is not None:
        return of_topup.get(topup_id, reference)
    kind, _, place = reference.partition(":")
    tables: dict[str, Movements] = {"transfer": ChainTransfer, "outflow": ChainOutflow}
    table = tables.get(kind)
    return reference if table is None else _name(table, place.partition(":")[0])

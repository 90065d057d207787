"""The books against the chain.

The ledger's figure comes from the database alone; only then is the chain asked, at
one block, for what it says itself.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, func
from sqlmodel import col, select

from tallystick.chain.evidence import transfers_from, transfers_to
from tallystick.chain.token import balance_of
from tallystick.kernel.db import Database, ReadSession, WriteSession
from tallystick.ledger import chart
from tallystick.ledger.balances import net_debits
from tallystick.ledger.findings import Finding, run_checks
from tallystick.payments.errors import TopUpsUnavailable
from tallystick.payments.following import transfers_of
from tallystick.payments.models import (
    ChainCursor,
    ChainTransfer,
    Presence,
    Redemption,
)
from tallystick.payments.rail import Rail
from tallystick.payments.same_chain import check_chain, find_cursor

_CHECKS = {
    "I10 exposure is what was credited before its block was safe": """
        SELECT exposure.chain_id, exposure.customer_id, exposure.provisional,
               COALESCE(SUM(topup.exposed), 0) AS exposed
          FROM exposure
          LEFT JOIN topup
            ON topup.chain_id = exposure.chain_id AND topup.exposed IS NOT NULL
           AND exposure.customer_id IN (0, topup.customer_id)
         GROUP BY exposure.chain_id, exposure.customer_id, exposure.provisional
        HAVING exposure.provisional <> COALESCE(SUM(topup.exposed), 0)""",
    "I10 only what is credited and not safe yet is exposed": """
        SELECT id, state, exposed FROM topup
         WHERE exposed IS NOT NULL AND (state <> 'credited' OR exposed <> value)""",
    "I7 a paid top-up has exactly its Transfer": """
        SELECT topup.id, topup.state FROM topup
          LEFT JOIN chain_transfer
            ON chain_transfer.topup_id = topup.id
           AND chain_transfer.presence <> 'gone'
         WHERE (topup.state IN ('credited', 'safe', 'final'))
            <> (chain_transfer.id IS NOT NULL)""",
    "I7 a top-up's Transfer moved what was signed": """
         SELECT topup.id, topup.value, chain_transfer.value FROM topup
           JOIN chain_transfer ON chain_transfer.topup_id = topup.id
          WHERE chain_transfer.presence <> 'gone' AND (topup.value <> chain_transfer.value
             OR topup.payer <> chain_transfer.sender)""",
    "I7 a paid top-up was granted what it bought": """
        SELECT topup.id, topup.credits, credit_grant.amount FROM topup
          LEFT JOIN ledger_transaction
            ON ledger_transaction.reference = 'topup:' || topup.id
           AND ledger_transaction.kind = 'topup'
          LEFT JOIN credit_grant
            ON credit_grant.ledger_transaction_id = ledger_transaction.id
         WHERE topup.state IN ('credited', 'safe', 'final') AND topup.credits > 0
           AND (credit_grant.amount IS NULL OR credit_grant.amount <> topup.credits
                OR credit_grant.customer_id <> topup.customer_id)""",
    "I7 what was redeemed was granted to whose wallet sent it": """
        SELECT chain_transfer.id, redemption.customer_id, redemption.credits
          FROM redemption
          JOIN chain_transfer
            ON chain_transfer.id = redemption.chain_transfer_id
           AND chain_transfer.generation = redemption.generation
          LEFT JOIN wallet ON wallet.address = chain_transfer.sender
         WHERE COALESCE(wallet.customer_id, -1) <> redemption.customer_id
            OR chain_transfer.topup_id IS NOT NULL
            OR (redemption.credits > 0 AND NOT EXISTS (
                SELECT 1 FROM credit_grant
                  JOIN ledger_transaction
                    ON ledger_transaction.id = credit_grant.ledger_transaction_id
                 WHERE reference = 'redemption:' || chain_transfer.id
                   AND credit_grant.customer_id = redemption.customer_id
                   AND credit_grant.amount = redemption.credits
                   AND cost_amount = chain_transfer.value))""",
    "I7 a waived claim was never signed by our relayer": """
        SELECT claim.id FROM claim
          JOIN topup ON topup.claim_id = claim.id
          JOIN relayed_transaction ON relayed_transaction.topup_id = topup.id
         WHERE claim.state IN ('waived', 'overtaken')""",
    "I7 a waived claim was never handed to a facilitator": """
        SELECT claim.id FROM claim
          JOIN topup ON topup.claim_id = claim.id
          JOIN settle_attempt ON settle_attempt.topup_id = topup.id
         WHERE claim.state IN ('waived', 'overtaken')""",
}


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What the ledger and the chain say of the money at ``pay_to``, in atomic USDC."""

    block_number: int
    ledger_usdc: int
    chain_usdc: int
    findings: list[Finding]


async def audit_payments(session: ReadSession | WriteSession) -> list[Finding]:
    """Every broken invariant of top-ups that the database alone can show."""
    return await run_checks(session, _CHECKS)


async def reconcile(db: Database, rail: Rail) -> Reconciliation:
    """Compare the ledger with the chain at the block that the observer has reached.

    Raises ``RpcUnavailable`` when the chain cannot be asked, ``BooksOfAnotherChain``
    when there is nothing to compare.
    """
    await check_chain(db, rail)
    async with db.read() as session:
        cursor = await find_cursor(session, rail)
        if cursor is None:
            raise TopUpsUnavailable("the books are not open yet: start the server once")
        newer = await _booked_after(session, rail, cursor.block_number)
        ledger_usdc = await _in_ledger(session, rail, cursor.opening_balance) - newer
        booked = await _booked(session, rail, cursor.block_number)
        findings = await _check_suspense(session, rail)
    chain_usdc = await balance_of(
        rail.chain, rail.pay_to, block=max(cursor.block_number, 0)
    )
    swept_out = await _swept_out(rail, cursor)
    findings += await _missing(rail, cursor, booked)
    if ledger_usdc != chain_usdc + swept_out:
        findings.append(
            Finding(
                "I6 the ledger's USDC equals the token's balance plus what was swept",
                f"ledger {ledger_usdc}, chain {chain_usdc}, swept {swept_out}",
            )
        )
    return Reconciliation(
        cursor.block_number, ledger_usdc - swept_out, chain_usdc, findings
    )


async def _in_ledger(session: ReadSession, rail: Rail, opening: int) -> int:
    account = chart.chain_assets(rail.network, rail.domain.contract)
    return opening + await net_debits(session, account)


async def _booked_after(session: ReadSession, rail: Rail, block_number: int) -> int:
    # The settler credits a block before the observer's cursor has come to it, and what
    # is missing from new blocks is taken back once all of them are read.
    is_later = col(ChainTransfer.block_number) > block_number
    is_missing = col(ChainTransfer.presence) == Presence.MISSING
    query = select(func.coalesce(func.sum(ChainTransfer.value), 0)).where(
        *transfers_of(rail),
        col(ChainTransfer.presence) != Presence.GONE,
        is_later | is_missing,
    )
    return int((await session.exec(query)).one())


async def _booked(
    session: ReadSession, rail: Rail, last_block: int
) -> dict[tuple[bytes, int], int]:
    query = select(
        ChainTransfer.tx_hash, ChainTransfer.log_index, ChainTransfer.value
    ).where(
        *transfers_of(rail),
        col(ChainTransfer.block_number) <= last_block,
        col(ChainTransfer.presence) == Presence.BOOKED,
    )
    rows = await session.exec(query)
    return {(bytes(tx), index): value for tx, index, value in rows}


async def _check_suspense(session: ReadSession, rail: Rail) -> list[Finding]:
    query = select(func.coalesce(func.sum(ChainTransfer.value), 0)).where(
        col(ChainTransfer.chain_id) == rail.domain.chain_id,
        col(ChainTransfer.token) == rail.domain.contract,
        col(ChainTransfer.topup_id).is_(None),
        col(ChainTransfer.presence) != Presence.GONE,
        ~_is_redeemed(),
    )
    unowned = int((await session.exec(query)).one())
    account = chart.suspense(rail.network, rail.domain.contract)
    suspended = -await net_debits(session, account)
    if suspended == unowned:
        return []
    detail = f"suspense {suspended}, Transfers without an owner {unowned}"
    return [Finding("I5 suspense equals the Transfers without an owner", detail)]


def _is_redeemed() -> ColumnElement[bool]:
    return (
        select(Redemption.customer_id)
        .where(
            col(Redemption.chain_transfer_id) == col(ChainTransfer.id),
            col(Redemption.generation) == col(ChainTransfer.generation),
        )
        .exists()
    )


async def _missing(
    rail: Rail, cursor: ChainCursor, booked: dict[tuple[bytes, int], int]
) -> list[Finding]:
    seen = []
    if cursor.block_number >= cursor.first_block:  # else the observer has not begun
        seen = await transfers_to(
            rail.chain, rail.pay_to, cursor.first_block, cursor.block_number
        )
    on_chain = {(one.tx_hash, one.log_index): one.amount for one in seen}
    findings = []
    for tx_hash, index in sorted(on_chain.keys() | booked.keys()):
        key = (tx_hash, index)
        if on_chain.get(key) != booked.get(key):
            findings.append(
                Finding(
                    "I16 every Transfer to pay_to is in the ledger, and no other",
                    f"0x{tx_hash.hex()} log {index}: chain {on_chain.get(key)},"
                    f" ledger {booked.get(key)}",
                )
            )
    return findings


async def _swept_out(rail: Rail, cursor: ChainCursor) -> int:
    first, last = cursor.first_block, cursor.block_number
    if last < first:
        return 0
    sent = await transfers_from(rail.chain, rail.pay_to, first, last)
    return sum(one.amount for one in sent)

"""The books against the chain.

The ledger's figure comes from the database alone; only then is the chain asked, at
one block, for what it says itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func
from sqlmodel import col, select

from tallystick.chain.token import balance_of
from tallystick.kernel.db import Database, ReadSession, WriteSession
from tallystick.kernel.money import USDC_SCALE, to_decimal
from tallystick.ledger import chart
from tallystick.ledger.balances import net_debits
from tallystick.ledger.findings import Finding, run_checks, unstopped
from tallystick.payments.errors import TopUpsUnavailable
from tallystick.payments.gas.checks import GAS_CHECKS
from tallystick.payments.models.chain import (
    ChainCursor,
    ChainOutflow,
    ChainTransfer,
    Presence,
    Redemption,
)
from tallystick.payments.observing.dust import Dust, all_dust, dust_between, dust_upto
from tallystick.payments.observing.payees import rails_of
from tallystick.payments.observing.same_chain import check_chain
from tallystick.payments.paybacks.checks import PAYBACK_CHECKS
from tallystick.payments.rail import Rail
from tallystick.payments.reconciling.books import (
    Log,
    Sums,
    booked,
    ledger_usdc,
    newer_than,
    readable_upto,
)
from tallystick.payments.reconciling.checkpoints import I15, audit_checkpoints
from tallystick.payments.reconciling.differences import (
    I6,
    compare_logs,
    misbooked,
    next_step,
)
from tallystick.x402.keccak import checksum_address

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
    "I7 what is settled for a merchant is no top-up of ours": """
        SELECT merchant_settlement.id FROM merchant_settlement
          JOIN topup ON topup.chain_id = merchant_settlement.chain_id
           AND topup.token = merchant_settlement.token
           AND topup.payer = merchant_settlement.payer
           AND topup.nonce = merchant_settlement.nonce
           AND topup.pay_to = merchant_settlement.pay_to
           AND topup.authority IS NULL""",
    "I7 what was redeemed as a plain Transfer is no top-up's": """
        SELECT redemption.chain_transfer_id, chain_transfer.topup_id FROM redemption
          JOIN chain_transfer
            ON chain_transfer.id = redemption.chain_transfer_id
           AND chain_transfer.generation = redemption.generation
         WHERE chain_transfer.topup_id IS NOT NULL""",
    "I7 the nonce of a top-up is claimed where it is kept": """
        SELECT topup.id FROM topup
          JOIN claim ON claim.id = topup.claim_id
         WHERE claim.token <> COALESCE(topup.authority, topup.token)
            OR claim.payer <> topup.payer OR claim.nonce <> topup.nonce""",
    "I7 a waived claim was never handed to a facilitator": """
        SELECT claim.id FROM claim
          JOIN topup ON topup.claim_id = claim.id
          JOIN settle_attempt ON settle_attempt.topup_id = topup.id
         WHERE claim.state IN ('waived', 'overtaken')""",
}


I6_PAYEE = "I6 an address holds what came to it and has not left it"


@dataclass(frozen=True, slots=True)
class PayeeFigures:
    """One address at a block, in atomic USDC: by its Transfers, and by the chain.

    ``agreed_block`` is the last at which they were known to agree, and
    ``unbooked_usdc`` what the chain has more by now, dust that is to be gathered apart.
    """

    pay_to: bytes
    block_number: int
    books_usdc: int
    chain_usdc: int
    swept_usdc: int
    findings: list[Finding]
    agreed_block: int
    unbooked_usdc: int


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What the ledger and the chain say of the money at ``pay_to``, in atomic USDC.

    Of all addresses that are or were it; ``block_number`` is how far the present one's
    blocks were compared.
    """

    block_number: int
    ledger_usdc: int
    chain_usdc: int
    findings: list[Finding]
    payees: tuple[PayeeFigures, ...]

    def document(self) -> dict[str, Any]:
        """As JSON, USDC in dollars; each finding says what to do next."""
        return {
            "ok": not self.findings,
            "block": self.block_number,
            "ledger_usdc": to_decimal(self.ledger_usdc, USDC_SCALE),
            "chain_usdc": to_decimal(self.chain_usdc, USDC_SCALE),
            "payees": [
                {
                    "pay_to": checksum_address(one.pay_to),
                    "block": one.block_number,
                    "books_usdc": to_decimal(one.books_usdc, USDC_SCALE),
                    "chain_usdc": to_decimal(one.chain_usdc, USDC_SCALE),
                    "swept_usdc": to_decimal(one.swept_usdc, USDC_SCALE),
                }
                for one in self.payees
            ],
            "findings": [
                {
                    "invariant": one.invariant,
                    "detail": one.detail,
                    "next_step": next_step(one),
                }
                for one in self.findings
            ],
        }


async def audit_payments(session: ReadSession | WriteSession) -> list[Finding]:
    """Every broken invariant of top-ups that the database alone can show."""
    findings = await run_checks(session, _CHECKS | GAS_CHECKS | PAYBACK_CHECKS)

    async def seals() -> list[Finding]:
        return await audit_checkpoints(session)

    return findings + await unstopped(session, I15, seals)


async def reconcile(db: Database, rail: Rail) -> Reconciliation:
    """Compare all of the ledger with the chain, as far as the observer has come.

    Each address that is or was ``pay_to`` is compared log by log. Raises
    ``RpcUnavailable`` when the chain cannot be asked, ``BooksOfAnotherChain`` when there
    is nothing to compare.
    """
    await check_chain(db, rail)
    rails = await rails_of(db, rail)
    async with db.snapshot() as session:
        views = [await _view(session, one) for one in rails]
        ledger = sum(one.cursor.opening_balance - one.newer.net for one in views)
        ledger += await ledger_usdc(session, rail)
        findings = await _check_suspense(session, rail)
    payees = []
    for one in views:
        compared = await _compare(one)
        payees.append(compared)
        findings += compared.findings
    chain = sum(one.chain_usdc for one in payees)
    # Dust is booked once it is final.
    if ledger + sum(one.dust.pending for one in views) != chain:
        async with db.snapshot() as session:
            named = await misbooked(session, rail)
        told = f"ledger {ledger}, chain {chain}"
        findings += [Finding(I6, f"{told}; {one}") for one in named or ["in all"]]
    block_number = views[0].cursor.block_number
    return Reconciliation(block_number, ledger, chain, findings, tuple(payees))


@dataclass(frozen=True, slots=True)
class _View:
    """What the database says of one address, up to its cursor."""

    rail: Rail
    cursor: ChainCursor
    newer: Sums
    came_in: Mapping[Log, int]
    went_out: Mapping[Log, int]
    dust: Dust


async def _view(session: ReadSession, rail: Rail) -> _View:
    cursor = await readable_upto(session, rail)
    if cursor is None:
        raise TopUpsUnavailable("the books are not open yet: start the server once")
    first, last = cursor.first_block, cursor.block_number
    return _View(
        rail,
        cursor,
        await newer_than(session, rail, last),
        await booked(session, ChainTransfer, rail, first, last),
        await booked(session, ChainOutflow, rail, first, last),
        await dust_between(
            session, rail, first, last, upto=await dust_upto(session, rail, first)
        ),
    )


async def _compare(view: _View) -> PayeeFigures:
    rail, cursor = view.rail, view.cursor
    first, last = cursor.first_block, cursor.block_number
    findings = [
        *await compare_logs(rail, ChainTransfer, first, last, view.came_in, view.dust),
        *await compare_logs(rail, ChainOutflow, first, last, view.went_out),
    ]
    holds = await balance_of(rail.chain, rail.pay_to, block=max(last, 0))
    came_in, went_out = sum(view.came_in.values()), sum(view.went_out.values())
    should_hold = cursor.opening_balance + came_in + view.dust.value - went_out
    unbooked = holds - should_hold - view.dust.pending
    if unbooked and not findings:
        told = f"{checksum_address(rail.pay_to)}: books {should_hold}, chain {holds}"
        findings.append(Finding(I6_PAYEE, f"{told} at block {last}"))
    return PayeeFigures(
        rail.pay_to,
        last,
        should_hold,
        holds,
        went_out,
        findings,
        agreed_block=first - 1,
        unbooked_usdc=unbooked,
    )


async def _check_suspense(session: ReadSession, rail: Rail) -> list[Finding]:
    """Whether what has no owner is what the ledger keeps for its owners."""
    query = select(func.coalesce(func.sum(ChainTransfer.value), 0)).where(
        col(ChainTransfer.chain_id) == rail.domain.chain_id,
        col(ChainTransfer.token) == rail.domain.contract,
        col(ChainTransfer.topup_id).is_(None),
        col(ChainTransfer.presence) != Presence.GONE,
        ~_is_redeemed(),
    )
    unowned = int((await session.exec(query)).one())
    unowned += sum(one.value for one in await all_dust(session, rail))
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

"""The ledger proves itself: every invariant is a query that must return nothing.

The numbers are those of docs/invariants.md.
"""

from tallystick.kernel.db import ReadSession, WriteSession
from tallystick.ledger import sealed_audit
from tallystick.ledger.findings import Checks, Finding, run_checks
from tallystick.ledger.guards import GUARDED, audit_guards
from tallystick.ledger.scope import EVERYTHING, Scope
from tallystick.ledger.sealed_audit import audit_seals
from tallystick.ledger.shapes import A_CHANGE, AN_ID, is_malformed
from tallystick.ledger.uniques import ONCE, audit_uniques

# Each query names the rows that break the invariant; an entry's amount is positive on
# the credit side, so a customer's balance is the plain sum of his entries. Where a query
# begins stands in braces (``scope``).
_CHECKS = {
    "I1 entries of a transaction sum to zero per asset": """
        SELECT entry.ledger_transaction_id, ledger_account.asset, SUM(entry.amount)
          FROM {entry} JOIN ledger_account ON ledger_account.id = ledger_account_id
         GROUP BY entry.ledger_transaction_id, ledger_account.asset
        HAVING SUM(entry.amount) <> 0""",
    "I1 a transfer moves one asset": """
        SELECT ledger_transaction_id, position, debit.asset, credit.asset
          FROM {transfer}
          JOIN ledger_account AS debit ON debit.id = transfer.debit_account_id
          JOIN ledger_account AS credit ON credit.id = transfer.credit_account_id
         WHERE debit.asset <> credit.asset""",
    "I3 a transfer stands between accounts, in a transaction": """
        SELECT ledger_transaction_id, position, debit_account_id, credit_account_id
          FROM {transfer}
         WHERE NOT EXISTS (SELECT 1 FROM ledger_account WHERE id = debit_account_id)
            OR NOT EXISTS (SELECT 1 FROM ledger_account WHERE id = credit_account_id)
            OR NOT EXISTS (SELECT 1 FROM ledger_transaction
                            WHERE id = ledger_transaction_id)""",
    "I1 every transaction has transfers": """
        SELECT id FROM {ledger_transaction}
         WHERE NOT EXISTS (SELECT 1 FROM transfer
                            WHERE ledger_transaction_id = ledger_transaction.id)""",
    "I3 every customer's account has a balance row": """
        SELECT id, customer_id FROM {ledger_account}
         WHERE customer_id IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM account_balance
                            WHERE ledger_account_id = ledger_account.id)""",
    "I3 a balance row names its account's customer": """
        SELECT ledger_account_id, account_balance.customer_id,
               ledger_account.customer_id AS of_account
          FROM {account_balance}
          LEFT JOIN ledger_account ON ledger_account.id = ledger_account_id
         WHERE ledger_account.customer_id IS NULL
            OR ledger_account.customer_id <> account_balance.customer_id""",
    "I3 balance equals the sum of entries, version their number": """
        SELECT account_balance.ledger_account_id, account_balance.balance,
               COALESCE(SUM(booked.amount), 0) AS booked, account_balance.version,
               COALESCE(SUM(booked.lines), 0) AS lines
          FROM {account_balance}
          LEFT JOIN {booked}
            ON booked.ledger_account_id = account_balance.ledger_account_id
         GROUP BY account_balance.ledger_account_id, account_balance.balance,
                  account_balance.version
        HAVING account_balance.balance <> COALESCE(SUM(booked.amount), 0)
            OR account_balance.version <> COALESCE(SUM(booked.lines), 0)""",
    "I3 a customer's lines are numbered, the house's are not": """
        SELECT ledger_transaction_id, position, ledger_account.code, entry.version
          FROM {entry} JOIN ledger_account ON ledger_account.id = ledger_account_id
         WHERE (ledger_account.customer_id IS NULL) <> (entry.version IS NULL)
            OR (entry.version IS NULL) <> (entry.balance_after IS NULL)""",
    "I3 each line continues from the line before": """
        SELECT * FROM {history}
        WHERE balance_before + amount <> balance_after
           OR version_before + 1 <> version""",
    "I3 balance equals what remains in the lots plus what is held": """
        SELECT account_balance.ledger_account_id, balance, held,
               COALESCE(SUM(lot_left.remaining), 0) AS remaining
          FROM {account_balance}
          LEFT JOIN {lot_left}
            ON lot_left.ledger_account_id = account_balance.ledger_account_id
         GROUP BY account_balance.ledger_account_id, balance, held
        HAVING balance <> COALESCE(SUM(lot_left.remaining), 0) + held""",
    "I3 the burning lot is an open one of its own account": """
        SELECT account_balance.ledger_account_id, burning_lot_id, burning_left,
               burning_since_ms
          FROM {account_balance} LEFT JOIN lot ON lot.id = burning_lot_id
         WHERE (burning_lot_id IS NULL
                AND (burning_left <> 0 OR burning_since_ms IS NOT NULL))
            OR (burning_lot_id IS NOT NULL
                AND (lot.id IS NULL OR NOT lot.is_open
                     OR burning_left < 0 OR burning_left > lot.amount
                     OR burning_since_ms IS NULL
                     OR burning_since_ms <> lot.effective_at_ms
                     OR lot.effective_at_ms >= next_change_ms
                     OR lot.ledger_account_id <> account_balance.ledger_account_id))""",
    "I3 the burning lot comes first in burn order": """
        SELECT account_balance.ledger_account_id, burning_lot_id, other.id
          FROM {account_balance}
          JOIN lot ON lot.id = burning_lot_id
          JOIN lot AS other
            ON other.ledger_account_id = account_balance.ledger_account_id
         WHERE other.is_open AND other.id <> lot.id
           AND (next_change_ms IS NULL OR other.effective_at_ms < next_change_ms)
           AND (other.priority, COALESCE(other.expires_at_ms, 9223372036854775807),
                other.bought, other.id)
             < (lot.priority, COALESCE(lot.expires_at_ms, 9223372036854775807),
                lot.bought, lot.id)""",
    "I3 each line of a customer names its lots exactly": """
        SELECT ledger_transaction_id, position, ledger_account_id,
               SUM(amount) AS unexplained
          FROM (SELECT ledger_transaction_id, position, ledger_account_id, amount
                  FROM {entry} WHERE version IS NOT NULL
                UNION ALL
                SELECT ledger_transaction_id, position, lot.ledger_account_id,
                       -lot_entry.amount
                  FROM {lot_entry}
                  LEFT JOIN lot ON lot.id = lot_entry.lot_id) AS sides
         GROUP BY ledger_transaction_id, position, ledger_account_id
        HAVING SUM(amount) <> 0""",
    "I3 a lot was opened once, with its amount": """
        SELECT lot.id, lot.amount, COALESCE(SUM(opening.amount), 0) AS opened
          FROM {lot:opened}
          LEFT JOIN (
              SELECT lot_entry.lot_id, lot_entry.amount FROM {lot_entry}
                JOIN ledger_transaction
                  ON ledger_transaction.id = lot_entry.ledger_transaction_id
               WHERE lot_entry.amount > 0
                 AND kind <> 'reversal') AS opening ON opening.lot_id = lot.id
         GROUP BY lot.id, lot.amount
        HAVING lot.amount <> COALESCE(SUM(opening.amount), 0)
            OR COUNT(opening.amount) > 1""",
    "I3 a lot has between nothing and its amount left": """
        SELECT id, amount, remaining, is_open FROM {lot}
         WHERE remaining < 0 OR remaining > amount OR is_open <> (remaining > 0)""",
    "I3 deferred is what remains in lots that count later": """
        SELECT account_balance.ledger_account_id, deferred,
               COALESCE(SUM(lot_left.remaining), 0) AS remaining
          FROM {account_balance}
          LEFT JOIN {lot_left}
            ON lot_left.ledger_account_id = account_balance.ledger_account_id
           AND lot_left.effective_at_ms >= next_change_ms
         GROUP BY account_balance.ledger_account_id, deferred
        HAVING deferred <> COALESCE(SUM(lot_left.remaining), 0)""",
    "I3 next_change_ms is when a lot begins to count or expires": """
        SELECT ledger_account_id, next_change_ms FROM {account_balance}
         WHERE EXISTS (SELECT 1 FROM lot
                        WHERE lot.ledger_account_id = account_balance.ledger_account_id
                          AND is_open
                          AND (expires_at_ms < next_change_ms
                               OR (next_change_ms IS NULL
                                   AND expires_at_ms IS NOT NULL)))
            OR (next_change_ms IS NOT NULL AND NOT EXISTS (
                SELECT 1 FROM lot
                 WHERE lot.ledger_account_id = account_balance.ledger_account_id
                   AND is_open
                   AND next_change_ms IN (effective_at_ms, expires_at_ms)))""",
    "I4 balance minus held is not negative": """
        SELECT ledger_account_id, balance, held, deferred FROM {account_balance}
         WHERE balance - held - deferred < 0 OR held < 0 OR deferred < 0""",
    "I5 breakage is what had expired, and bought credits never do": """
        SELECT ledger_transaction_id, lot.id, lot.expires_at_ms FROM {lot_entry}
          JOIN ledger_transaction
            ON ledger_transaction.id = lot_entry.ledger_transaction_id
          JOIN lot ON lot.id = lot_entry.lot_id
         WHERE kind = 'expiry'
           AND (lot.bought OR lot.expires_at_ms IS NULL
                OR posted_at_ms < lot.expires_at_ms)""",
    "I12 reversals take back at most what they reverse": """
        SELECT moved.reverses_id, moved.asset, moved.amount
          FROM (SELECT reverses_id, asset, SUM(amount) AS amount
                  FROM {ledger_transaction:reversal}
                  JOIN transfer ON ledger_transaction_id = ledger_transaction.id
                  JOIN ledger_account ON ledger_account.id = debit_account_id
                 WHERE reverses_id IS NOT NULL
                 GROUP BY reverses_id, asset) AS moved
         WHERE moved.amount > (
               SELECT COALESCE(SUM(transfer.amount), 0)
                 FROM transfer
                 JOIN ledger_account ON ledger_account.id = transfer.debit_account_id
                WHERE transfer.ledger_transaction_id = moved.reverses_id
                  AND ledger_account.asset = moved.asset)""",
    "I12 what was reversed is counted": """
        SELECT ledger_transaction_id, asset, SUM(amount) AS uncounted FROM (
            SELECT ledger_transaction_id, asset, reversed AS amount FROM {reversed}
            UNION ALL
            SELECT reverses_id, asset, -amount
              FROM {ledger_transaction:reversal}
              JOIN transfer ON ledger_transaction_id = ledger_transaction.id
              JOIN ledger_account ON ledger_account.id = debit_account_id
             WHERE reverses_id IS NOT NULL) AS both_sides
         GROUP BY ledger_transaction_id, asset HAVING SUM(amount) <> 0""",
    "I12 what may be reversed is what was moved": """
        SELECT reversed.ledger_transaction_id, reversed.asset, reversed.amount,
               COALESCE(moved.amount, 0) AS moved
          FROM {reversed}
          LEFT JOIN (SELECT transfer.ledger_transaction_id, asset,
                            SUM(transfer.amount) AS amount
                       FROM transfer
                       JOIN ledger_account ON ledger_account.id = debit_account_id
                      WHERE transfer.ledger_transaction_id IN (
                            SELECT ledger_transaction_id FROM {reversed})
                      GROUP BY transfer.ledger_transaction_id, asset) AS moved
            ON moved.ledger_transaction_id = reversed.ledger_transaction_id
           AND moved.asset = reversed.asset
         WHERE reversed.amount <> COALESCE(moved.amount, 0)""",
    "I12 what is reversed goes back to its own lots": """
        SELECT original.id, original.kind, both_sides.lot_id,
               SUM(both_sides.amount) AS amount
          FROM (SELECT reverses_id AS original_id, lot_id, lot_entry.amount
                  FROM {lot_entry:reversal}
                  JOIN ledger_transaction
                    ON ledger_transaction.id = lot_entry.ledger_transaction_id
                 WHERE reverses_id IS NOT NULL
                UNION ALL
                SELECT ledger_transaction_id, lot_id, amount FROM {lot_entry:original}
                 WHERE ledger_transaction_id IN (
                       SELECT reverses_id FROM {ledger_transaction:reversal}
                        WHERE reverses_id IS NOT NULL)) AS both_sides
          JOIN ledger_transaction AS original ON original.id = original_id
         GROUP BY original.id, original.kind, both_sides.lot_id
        HAVING (original.kind IN ('charge', 'payback') AND SUM(both_sides.amount) > 0)
            OR (original.kind NOT IN ('charge', 'payback')
                AND SUM(both_sides.amount) < 0)""",
    "I12 a reversal names what it reverses": """
        SELECT id, kind, reverses_id FROM {ledger_transaction}
         WHERE (kind = 'reversal') <> (reverses_id IS NOT NULL)""",
    "I2 every kind of transaction is known": """
        SELECT id, kind FROM {ledger_transaction}
         WHERE kind NOT IN ('topup', 'charge', 'grant', 'suspense', 'reversal',
                            'expiry', 'collection', 'write_off', 'sweep', 'payback')""",
    "I13 amounts are whole numbers below the limit": """
        SELECT ledger_transaction_id, position, amount FROM {transfer}
         WHERE amount <= 0 OR amount >= 4611686018427387904
            OR amount <> CAST(amount AS BIGINT)""",
}
_NO_RIGHTS = "I2 nobody has the right to change what is posted"
# A table whose rights nobody touched has none written down: its owner has all.
_RIGHTS = """
    SELECT relname AS table, privilege_type AS right,
           COALESCE(pg_get_userbyid(NULLIF(grantee, 0)), 'PUBLIC') AS holder
      FROM pg_class, aclexplode(COALESCE(relacl, acldefault('r', relowner)))
     WHERE pg_class.oid IN (to_regclass('transfer'), to_regclass('journal_seal'),
                            to_regclass('ledger_transaction'))
       AND privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE')
     ORDER BY 1, 3, 2"""
_ONLY_ON = {"sqlite": {}, "postgresql": {_NO_RIGHTS: _RIGHTS}}
_LOTS = "I3 what names a line's lots can be read"
INVARIANTS = (GUARDED, ONCE, _NO_RIGHTS, _LOTS, *_CHECKS, *sealed_audit.INVARIANTS)


async def audit_ledger(session: ReadSession | WriteSession) -> list[Finding]:
    """Every broken invariant of the ledger; empty when it is sound."""
    return [
        *await audit_protection(session),
        *await audit_postings(session, EVERYTHING),
        *await audit_seals(session),
    ]


async def audit_protection(session: ReadSession | WriteSession) -> list[Finding]:
    """What the database itself does not refuse any more."""
    rights = _ONLY_ON[session.get_bind().dialect.name]
    return [
        *await audit_guards(session),
        *await audit_uniques(session),
        *await run_checks(session, rights),
    ]


async def audit_postings(
    session: ReadSession | WriteSession, scope: Scope
) -> list[Finding]:
    """Every broken invariant of what is posted in the scope, and of its accounts."""
    checks = scope.checks(_CHECKS)
    # Its pattern has braces of its own.
    readable = {_LOTS: _unreadable_lots(session.get_bind().dialect.name, scope)}
    asked = Checks({**readable, **checks.queries}, checks.values)
    return await run_checks(session, asked)


def _unreadable_lots(dialect: str, scope: Scope) -> str:
    malformed = is_malformed(dialect, "transfer.lots", (AN_ID, A_CHANGE))
    return f"""
        SELECT ledger_transaction_id, position, lots FROM {scope.within("{transfer}")}
         WHERE {malformed} OR (lot_id IS NOT NULL AND lots IS NOT NULL)"""  # noqa: S608  # our own words

"""For each invariant a tampering that breaks it, so that its check is seen to work."""

from tests.ledger.bookings import BOB

A_CHARGE = "(SELECT MIN(id) FROM ledger_transaction WHERE reference = 'x')"
CONTROLS = {
    "I1 entries of a transaction sum to zero per asset": (
        "UPDATE ledger_account SET asset = 'USD' WHERE code = 'expense:promotions'"
    ),
    "I1 a transfer moves one asset": (
        "UPDATE ledger_account SET asset = 'USD' WHERE code = 'revenue:feature:x'"
    ),
    "I1 every transaction has transfers": (
        f"DELETE FROM transfer WHERE ledger_transaction_id = {A_CHARGE}"
    ),
    "I2 every kind of transaction is known": (
        f"UPDATE ledger_transaction SET kind = 'gift' WHERE id = {A_CHARGE}"
    ),
    "I5 what customers owe is what was booked on it": (
        "UPDATE receivable SET owed = owed - 1"
    ),
    "I5 a debt is its account's customer's": (
        f"UPDATE receivable SET customer_id = {BOB}"
    ),
    "I5 nobody owes beside the receivables": "DELETE FROM receivable",
    "I3 every customer's account has a balance row": (
        "DELETE FROM account_balance WHERE ledger_account_id ="
        f" (SELECT id FROM ledger_account WHERE customer_id = {BOB})"
    ),
    "I3 balance equals the sum of entries, version their number": (
        "UPDATE account_balance SET balance = balance + 1"
    ),
    "I3 a customer's lines are numbered, the house's are not": (
        "UPDATE transfer SET debit_version = NULL, debit_balance_after = NULL"
        f" WHERE ledger_transaction_id = {A_CHARGE}"
    ),
    "I3 each line continues from the line before": (
        "UPDATE transfer SET debit_balance_after = debit_balance_after + 1"
        f" WHERE ledger_transaction_id = {A_CHARGE}"
    ),
    "I3 balance equals what remains in the lots plus what is held": (
        "UPDATE lot SET remaining = remaining - 1 WHERE bought"
    ),
    "I3 each line of a customer names its lots exactly": (
        f"UPDATE transfer SET lot_id = NULL WHERE ledger_transaction_id = {A_CHARGE}"
    ),
    "I3 a lot was opened once, with its amount": (
        "UPDATE lot SET amount = amount + 1 WHERE bought"
    ),
    "I3 a lot has between nothing and its amount left": (
        "UPDATE lot SET is_open = NOT is_open WHERE bought"
    ),
    "I3 deferred is what remains in lots that count later": (
        "UPDATE account_balance SET deferred = deferred + 1"
    ),
    "I3 next_change_ms is when a lot begins to count or expires": (
        "UPDATE account_balance SET next_change_ms = next_change_ms + 1"
    ),
    "I3 a transfer stands between accounts, in a transaction": (
        f"UPDATE transfer SET credit_account_id = 7 WHERE ledger_transaction_id = {A_CHARGE}"
    ),
    "I3 a balance row names its account's customer": (
        "UPDATE account_balance SET customer_id = -customer_id"
    ),
    "I3 the burning lot is an open one of its own account": (
        "UPDATE account_balance SET burning_left = burning_left + 99"
    ),
    "I3 the burning lot comes first in burn order": (
        "UPDATE account_balance SET burning_lot_id = (SELECT id FROM lot WHERE bought)"
    ),
    "I4 a hold holds what it drew": ("UPDATE hold SET lots = NULL, lot_id = NULL"),
    "I4 a hold draws its own customer's lots": (
        "UPDATE hold SET customer_id = 12345 WHERE state = 'open'"
    ),
    "I4 balance minus held is not negative": (
        "UPDATE account_balance SET held = balance + 1"
    ),
    "I4 held equals the sum of open holds": (
        "UPDATE hold SET amount = amount + 1 WHERE state = 'open'"
    ),
    "I4 every open hold has a balance to stand on": (
        "UPDATE hold SET customer_id = 12345 WHERE state = 'open'"
    ),
    "I5 a lot's remainder is what was booked on it less what is held": (
        "UPDATE lot SET remaining = remaining - 1 WHERE bought"
    ),
    "I5 a grant is a lot, and what was paid for is bought": (
        "UPDATE lot SET bought = NOT bought"
    ),
    "I5 a charge draws no lot outside its time": (
        "UPDATE lot SET effective_at_ms = effective_at_ms + 3600000"
    ),
    "I5 a hold draws no lot outside its time": (
        "UPDATE lot SET effective_at_ms = 1, expires_at_ms = 2"
    ),
    "I5 breakage is what had expired, and bought credits never do": (
        "UPDATE lot SET expires_at_ms = expires_at_ms + 3600000"
        " WHERE expires_at_ms IS NOT NULL"
    ),
    "I5 every credit from outside is a grant": (
        "DELETE FROM credit_grant WHERE category = 'promotional'"
    ),
    "I5 every grant is booked from outside": (
        f"UPDATE credit_grant SET ledger_transaction_id = {A_CHARGE}"
        " WHERE category = 'paid'"
    ),
    "I5 a paid grant costs what its transaction took in": (
        "UPDATE credit_grant SET cost_amount = cost_amount + 1"
    ),
    "I9 a settled hold says when, an open one does not": (
        "UPDATE hold SET settled_at_ms = NULL WHERE state = 'released'"
    ),
    "I9 a hold was settled before its deadline, and expired from then on": (
        "UPDATE hold SET expires_at_ms = settled_at_ms WHERE state = 'captured'"
    ),
    "I9 a charge that captured a hold has it": (
        "DELETE FROM hold WHERE state = 'captured'"
    ),
    "I9 a captured hold took from its own draws": (
        "UPDATE hold SET lot_id = lot_id + 1, lots = NULL WHERE state = 'captured'"
    ),
    "I9 every captured hold has its charge": (
        "UPDATE hold SET captured = captured - 1 WHERE state = 'captured'"
    ),
    "I9 nothing is charged for a hold that was not captured": (
        "UPDATE hold SET state = 'released', captured = 0 WHERE state = 'captured'"
    ),
    "I12 reversals take back at most what they reverse": (
        "UPDATE transfer SET amount = amount + 9 WHERE ledger_transaction_id ="
        " (SELECT MIN(id) FROM ledger_transaction WHERE kind = 'reversal')"
    ),
    "I12 what was reversed is counted": ("UPDATE reversed SET reversed = reversed - 1"),
    "I12 what is reversed goes back to its own lots": (
        "UPDATE transfer SET lot_id = (SELECT id FROM lot WHERE bought)"
        " WHERE ledger_transaction_id ="
        " (SELECT MIN(id) FROM ledger_transaction WHERE kind = 'reversal')"
    ),
    "I12 a reversal names what it reverses": (
        "UPDATE ledger_transaction SET reverses_id = NULL WHERE kind = 'reversal'"
    ),
    "I13 amounts are whole numbers below the limit": (
        f"UPDATE transfer SET amount = -amount WHERE ledger_transaction_id = {A_CHARGE}"
    ),
    "I14 a limit used no more than was allowed in its window": (
        "UPDATE spend_limit SET used = highest + 1"
    ),
    "I14 a limit has a window that ends, unless it is total": (
        "UPDATE spend_limit SET ends_at_ms = ends_at_ms + 1"
    ),
    "I14 what holds took is counted in their limits": (
        "UPDATE spend_limit SET used = used - 1"
    ),
    "I3 what names a line's lots can be read": (
        f"UPDATE transfer SET lots = '[[1,2]]' WHERE ledger_transaction_id = {A_CHARGE}"
    ),
    "I4 what names a hold's lots can be read": "UPDATE hold SET lots = '[]'",
    "I14 what a hold took of limits can be read": (
        "UPDATE hold SET limits = replace(limits, ',7,', ',-7,')"
    ),
    "I12 what may be reversed is what was moved": (
        "UPDATE reversed SET amount = amount + 1"
    ),
    "I14 a hold takes more than nothing from a limit": (
        "UPDATE hold SET limits = replace(limits, ',7,', ',-7,')"
    ),
}

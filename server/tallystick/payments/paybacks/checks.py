"""What must hold of paybacks by the database alone (I19 of docs/invariants.md)."""

PAYBACK_CHECKS = {
    "I19 a payback took its credits from its customer": """
        SELECT payback.id, payback.credits, taken.amount
          FROM payback
          LEFT JOIN (
              SELECT reference, ledger_account.customer_id, -SUM(entry.amount) AS amount
                FROM entry
                JOIN ledger_account ON ledger_account.id = entry.ledger_account_id
                JOIN ledger_transaction
                  ON ledger_transaction.id = entry.ledger_transaction_id
               WHERE kind = 'payback' AND ledger_account.customer_id IS NOT NULL
               GROUP BY reference, ledger_account.customer_id) AS taken
            ON taken.reference = 'payback:' || payback.id
         WHERE taken.amount IS NULL OR taken.amount <> payback.credits
            OR taken.customer_id <> payback.customer_id""",
    "I19 a payback has given its credits back exactly when it is cancelled": """
        SELECT payback.id, payback.state, COUNT(reversal.id) AS reversals
          FROM payback
          LEFT JOIN ledger_transaction AS reversal
            ON reversal.reference = 'payback:' || payback.id
           AND reversal.kind = 'reversal'
         GROUP BY payback.id, payback.state
        HAVING COUNT(reversal.id)
            <> CASE WHEN payback.state = 'cancelled' THEN 1 ELSE 0 END""",
    "I19 a payback is booked out exactly when it is paid": """
        SELECT payback.id, payback.state, payback.usdc, booked.amount
          FROM payback
          LEFT JOIN (
              SELECT reference, SUM(transfer.amount) AS amount FROM transfer
                JOIN ledger_account ON ledger_account.id = credit_account_id
                JOIN ledger_transaction
                  ON ledger_transaction.id = transfer.ledger_transaction_id
               WHERE kind = 'payback' AND ledger_account.code LIKE 'assets:treasury:%'
               GROUP BY reference) AS booked
            ON booked.reference = 'payback:' || payback.id
         WHERE COALESCE(booked.amount, 0)
            <> CASE WHEN payback.state = 'paid' THEN payback.usdc ELSE 0 END""",
    "I19 nothing goes back without a payback": """
        SELECT ledger_transaction.id, reference FROM ledger_transaction
         WHERE kind = 'payback'
           AND NOT EXISTS (SELECT 1 FROM payback
                            WHERE reference = 'payback:' || payback.id)""",
    "I19 what is on its way back is what its paybacks say": """
        SELECT booked.amount AS booked, wanted.amount AS wanted
          FROM (SELECT COALESCE(SUM(entry.amount), 0) AS amount FROM entry
                  JOIN ledger_account ON ledger_account.id = entry.ledger_account_id
                 WHERE ledger_account.code = 'liabilities:paybacks') AS booked,
               (SELECT COALESCE(SUM(credits), 0) AS amount FROM payback
                 WHERE state IN ('proposed', 'approved', 'issued')) AS wanted
         WHERE booked.amount <> wanted.amount""",
    "I19 no more goes back than was paid": """
        SELECT topup.id, topup.value, paid_back.paid, paid_back.usdc,
               COALESCE(SUM(payback.usdc), 0) AS counted
          FROM paid_back
          JOIN topup ON topup.id = paid_back.topup_id
          LEFT JOIN payback
            ON payback.topup_id = topup.id AND payback.state <> 'cancelled'
         GROUP BY topup.id, topup.value, paid_back.paid, paid_back.usdc
        HAVING paid_back.usdc <> COALESCE(SUM(payback.usdc), 0)
            OR paid_back.usdc > paid_back.paid OR paid_back.paid <> topup.value""",
    "I19 money goes back to whose payment it was": """
        SELECT payback.id, payback.customer_id, topup.customer_id AS buyer
          FROM payback LEFT JOIN topup ON topup.id = payback.topup_id
         WHERE payback.chain_transfer_id IS NULL
           AND (topup.id IS NULL OR topup.payer <> payback.to_address
            OR topup.customer_id <> payback.customer_id
            OR NOT EXISTS (SELECT 1 FROM paid_back
                            WHERE paid_back.topup_id = payback.topup_id))""",
    "I19 no more goes back than was transferred": """
        SELECT chain_transfer.id, chain_transfer.value, transfer_paid_back.paid,
               transfer_paid_back.usdc, COALESCE(SUM(payback.usdc), 0) AS counted
          FROM transfer_paid_back
          JOIN chain_transfer
            ON chain_transfer.id = transfer_paid_back.chain_transfer_id
          LEFT JOIN payback
            ON payback.chain_transfer_id = chain_transfer.id
           AND payback.state <> 'cancelled'
         GROUP BY chain_transfer.id, chain_transfer.value, transfer_paid_back.paid,
                  transfer_paid_back.usdc
        HAVING transfer_paid_back.usdc <> COALESCE(SUM(payback.usdc), 0)
            OR transfer_paid_back.usdc > transfer_paid_back.paid
            OR transfer_paid_back.paid <> chain_transfer.value""",
    "I19 money goes back to whose transfer it was": """
        SELECT payback.id, payback.customer_id, redemption.customer_id AS redeemer
          FROM payback
          LEFT JOIN chain_transfer
            ON chain_transfer.id = payback.chain_transfer_id
           AND chain_transfer.presence <> 'gone'
          LEFT JOIN redemption
            ON redemption.chain_transfer_id = chain_transfer.id
           AND redemption.generation = chain_transfer.generation
         WHERE payback.chain_transfer_id IS NOT NULL
           AND (redemption.customer_id IS NULL
                OR redemption.customer_id <> payback.customer_id
                OR chain_transfer.sender <> payback.to_address
                OR NOT EXISTS (SELECT 1 FROM transfer_paid_back
                                WHERE transfer_paid_back.chain_transfer_id
                                    = payback.chain_transfer_id))""",
    "I19 what pay_to has paid back is a Transfer out of it": """
        SELECT payback.id, payback.usdc, chain_outflow.value FROM payback
          LEFT JOIN chain_outflow
            ON chain_outflow.chain_id = payback.chain_id
           AND chain_outflow.tx_hash = payback.tx_hash
           AND chain_outflow.log_index = payback.log_index
           AND chain_outflow.presence <> 'gone'
         WHERE payback.state = 'paid' AND payback.way <> 'float'
           AND (chain_outflow.id IS NULL OR chain_outflow.value <> payback.usdc
                OR chain_outflow.recipient <> payback.to_address
                OR chain_outflow.pay_to <> payback.from_address)""",
}

"""What must hold of gas by the database alone (I18 of docs/invariants.md).

What is older than ``KEPT_DAYS`` before the newest day is forgotten in parts
(``pruning``), so days are compared with their transactions only until then.
"""
# ruff: noqa: S608  # all that is put in is our own words

KEPT_DAYS = 30
"""Of gas, by the newest day on which any was reserved: a month shows what an attack
cost, and bills of nodes and merchants are monthly."""


def _recent(table: str) -> str:
    return (
        f"{table}.day > (SELECT MAX(newest.day) FROM gas_day AS newest"
        f" WHERE newest.chain_id = {table}.chain_id) - {KEPT_DAYS}"
    )


GAS_CHECKS = {
    "I18 a relayer's gas of a day is that of its transactions": f"""
        SELECT gas_day.chain_id, gas_day.relayer, gas_day.day, gas_day.reserved,
               gas_day.spent, gas_day.wasted
          FROM gas_day
          LEFT JOIN relayed_gas
            ON relayed_gas.chain_id = gas_day.chain_id
           AND relayed_gas.relayer = gas_day.relayer
           AND relayed_gas.day = gas_day.day
         WHERE {_recent("gas_day")}
         GROUP BY gas_day.chain_id, gas_day.relayer, gas_day.day, gas_day.reserved,
                  gas_day.spent, gas_day.wasted
        HAVING gas_day.reserved <> SUM(CASE WHEN relayed_gas.outcome = 'open'
                                            THEN relayed_gas.reserved ELSE 0 END)
            OR gas_day.spent <> COALESCE(SUM(relayed_gas.spent), 0)
            OR gas_day.wasted <> COALESCE(SUM(relayed_gas.wasted), 0)""",
    "I18 what came to nothing of a payer's is that of his transactions": f"""
        SELECT payer_gas.chain_id, payer_gas.payer, payer_gas.day, payer_gas.reserved,
               payer_gas.wasted
          FROM payer_gas
          LEFT JOIN relayed_gas
            ON relayed_gas.chain_id = payer_gas.chain_id
           AND relayed_gas.payer = payer_gas.payer
           AND relayed_gas.day = payer_gas.day
         WHERE {_recent("payer_gas")}
         GROUP BY payer_gas.chain_id, payer_gas.payer, payer_gas.day,
                  payer_gas.reserved, payer_gas.wasted
        HAVING payer_gas.reserved <> SUM(CASE WHEN relayed_gas.outcome = 'open'
                                              THEN relayed_gas.reserved ELSE 0 END)
            OR payer_gas.wasted <> COALESCE(SUM(relayed_gas.wasted), 0)""",
    "I18 what a merchant's settlements cost is that of their transactions": f"""
        SELECT merchant_gas.chain_id, merchant_gas.merchant_id, merchant_gas.day
          FROM merchant_gas
          LEFT JOIN relayed_gas
            ON relayed_gas.chain_id = merchant_gas.chain_id
           AND relayed_gas.merchant_id = merchant_gas.merchant_id
           AND relayed_gas.day = merchant_gas.day
         WHERE {_recent("merchant_gas")}
         GROUP BY merchant_gas.chain_id, merchant_gas.merchant_id, merchant_gas.day,
                  merchant_gas.reserved, merchant_gas.spent
        HAVING merchant_gas.reserved <> SUM(CASE WHEN relayed_gas.outcome = 'open'
                                                 THEN relayed_gas.reserved ELSE 0 END)
            OR merchant_gas.spent <> COALESCE(SUM(relayed_gas.spent), 0)""",
    "I18 the gas of each transaction counts on a day": f"""
        SELECT relayed_gas.day, relayed_gas.reserved, relayed_gas.payer
          FROM relayed_gas
          LEFT JOIN gas_day
            ON gas_day.chain_id = relayed_gas.chain_id
           AND gas_day.relayer = relayed_gas.relayer
           AND gas_day.day = relayed_gas.day
          LEFT JOIN payer_gas
            ON payer_gas.chain_id = relayed_gas.chain_id
           AND payer_gas.payer = relayed_gas.payer
           AND payer_gas.day = relayed_gas.day
         WHERE relayed_gas.reserved > 0
           AND (gas_day.day IS NULL
                OR (relayed_gas.payer IS NOT NULL AND payer_gas.day IS NULL
                    AND {_recent("relayed_gas")}))""",
}

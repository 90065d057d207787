"""What the views of the books show, for an audit that does not ask the views.

Whoever can write the database can put another view in the place of one, which hides what
he did to the tables. The programs ask the views that the migrations made; an audit
brings its own under their names. A migration that changes one changes it here, too
(``tests/ledger/test_views.py``).
"""

# How a packed column (``lots.pack``) is taken apart: its members, and one of a member.
_UNPACKED = {
    "sqlite": ("json_each({}) AS member", "json_extract(member.value, '$[{}]')"),
    "postgresql": (
        "jsonb_array_elements(CAST({} AS jsonb)) AS member",
        "CAST(member ->> {} AS BIGINT)",
    ),
}
_ENTRY = """
    SELECT position, ledger_transaction_id, debit_account_id AS ledger_account_id,
           -amount AS amount, debit_balance_after AS balance_after,
           debit_version AS version
      FROM transfer
    UNION ALL
    SELECT position, ledger_transaction_id, credit_account_id, amount,
           credit_balance_after, credit_version
      FROM transfer"""
_LOT_LEFT = """
    SELECT lot.id, lot.ledger_account_id, amount, is_open, effective_at_ms,
           expires_at_ms,
           CASE WHEN burning_lot_id = lot.id THEN burning_left ELSE remaining END
             AS remaining
      FROM lot
      LEFT JOIN account_balance
        ON account_balance.ledger_account_id = lot.ledger_account_id"""
_LOT_ENTRY = """
    SELECT position, ledger_transaction_id, lot_id,
           CASE WHEN debit_version IS NULL THEN amount ELSE -amount END AS amount
      FROM transfer WHERE lot_id IS NOT NULL
    UNION ALL
    SELECT position, ledger_transaction_id, {0}, {1} FROM transfer, {source}
     WHERE transfer.lots IS NOT NULL"""
_HOLD_DRAW = """
    SELECT id AS hold_id, lot_id, amount FROM hold WHERE lot_id IS NOT NULL
    UNION ALL
    SELECT hold.id, {0}, {1} FROM hold, {source} WHERE hold.lots IS NOT NULL"""
_HOLD_LIMIT = """
    SELECT hold.id AS hold_id, {0} AS limit_id, {1} AS amount, {2} AS window_number
      FROM hold, {source} WHERE hold.limits IS NOT NULL"""
_PACKED = {
    "lot_entry": (_LOT_ENTRY, "transfer.lots"),
    "hold_draw": (_HOLD_DRAW, "hold.lots"),
    "hold_limit": (_HOLD_LIMIT, "hold.limits"),
}


def views(dialect: str) -> dict[str, str]:
    """The query of each view, on this kind of database."""
    members, one = _UNPACKED[dialect]
    unpacked = {
        name: query.format(*map(one.format, range(3)), source=members.format(column))
        for name, (query, column) in _PACKED.items()
    }
    return {"entry": _ENTRY, "lot_left": _LOT_LEFT, **unpacked}


def on_tables(dialect: str, sql: str) -> str:
    """The query with these views instead of those that the database has."""
    # Else SQLite would make a table of each that is asked twice.
    own = ", ".join(
        f"{name} AS NOT MATERIALIZED ({query})"
        for name, query in views(dialect).items()
    )
    return f"WITH {own} SELECT * FROM ({sql}) AS found"  # noqa: S608  # our own words

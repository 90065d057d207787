"""The triggers that keep what is written once, and whether they are still those.

They are told here as the migrations leave them, in the form in which each database tells
its own: a guard of the right name that guards nothing must not pass. A migration that
changes one changes it here, too (``tests/ledger/test_guards.py``).
"""

import re
from collections.abc import Iterator, Mapping

from tallystick.kernel.db import ReadSession, WriteSession, query
from tallystick.ledger.findings import Finding, unstopped

GUARDED = "I2 the guards of the journal are in place"
Named = tuple[str, str]
"""A table and the name of a trigger on it."""
Guards = dict[Named, Mapping[str, object]]

_APPEND_ONLY = (
    "transfer",
    "ledger_transaction",
    "journal_seal",
    "credit_grant",
    "usage_event",
    "operator_act",
)
_TERMS = (
    "id",
    "ledger_account_id",
    "amount",
    "priority",
    "bought",
    "effective_at_ms",
    "expires_at_ms",
)
_FIXED = "the terms of a lot are fixed"
# PostgreSQL's bits of tgtype; without the first it is for each statement.
_BEFORE, _DELETE, _UPDATE, _TRUNCATE = 2, 8, 16, 32
_TRIGGERS = {
    "sqlite": "SELECT tbl_name AS guarded, name, sql AS text FROM sqlite_master"
    " WHERE type = 'trigger'",
    # Enabled always (A) is more than enabled, and as a replica (R) is not at all.
    "postgresql": """
        SELECT relname AS guarded, tgname AS name, tgtype AS fires,
               tgenabled IN ('O', 'A') AS enabled, tgqual IS NULL AS unconditional,
               (SELECT string_agg(attname, ', ' ORDER BY attname) FROM pg_attribute
                 WHERE attrelid = tgrelid AND attnum = ANY (tgattr)) AS columns,
               proname AS function, lanname AS language, prosrc AS text
          FROM pg_trigger
          JOIN pg_class ON pg_class.oid = tgrelid
          JOIN pg_proc ON pg_proc.oid = tgfoid
          JOIN pg_language ON pg_language.oid = prolang
         WHERE NOT tgisinternal AND pg_table_is_visible(tgrelid)""",
}
# As a replica's, a role's sessions fire none of them. Only superusers may set that.
_PAST_THE_GUARDS = {
    "postgresql": """
        SELECT COALESCE('role ' || rolname, 'database ' || datname) AS whose
          FROM pg_db_role_setting
          LEFT JOIN pg_roles ON pg_roles.oid = setrole
          LEFT JOIN pg_database ON pg_database.oid = setdatabase
         WHERE setdatabase IN (
               0, (SELECT oid FROM pg_database WHERE datname = current_database()))
           AND EXISTS (SELECT 1 FROM unnest(setconfig) AS setting
                        WHERE setting LIKE 'session_replication_role=%'
                          AND setting <> 'session_replication_role=origin')
        UNION ALL
        SELECT 'this session' WHERE current_setting('session_replication_role') <> 'origin'
         ORDER BY whose"""
}


def _on_sqlite() -> Iterator[tuple[Named, Mapping[str, object]]]:
    refusals = {table: f"{table} is append-only" for table in _APPEND_ONLY}
    of_lots = {"UPDATE": f"UPDATE OF {', '.join(_TERMS)}"}
    for table, words in (refusals | {"lot": _FIXED}).items():
        for verb in ("UPDATE", "DELETE"):
            name = f"{table}_refuses_{verb.lower()}"
            what = of_lots.get(verb, verb) if table == "lot" else verb
            text = (
                f"CREATE TRIGGER {name} BEFORE {what} ON {table}"
                f" BEGIN SELECT RAISE(ABORT, '{words}'); END"
            )
            yield (table, name), {"text": text}


def _on_postgresql() -> Iterator[tuple[Named, Mapping[str, object]]]:
    refuse = "BEGIN RAISE EXCEPTION {}; END"
    always: Mapping[str, object] = {
        "fires": _BEFORE | _DELETE | _UPDATE | _TRUNCATE,
        "enabled": True,
        "unconditional": True,
        "columns": None,
        "language": "plpgsql",
        "function": "refuse_change",
        "text": refuse.format("'% is append-only', TG_TABLE_NAME"),
    }
    for table in _APPEND_ONLY:
        yield (table, f"{table}_append_only"), always
    of_lots: Mapping[str, object] = {
        "columns": ", ".join(sorted(_TERMS)),
        "function": "refuse_other_terms",
        "text": refuse.format(f"'{_FIXED}'"),
    }
    yield ("lot", "lot_terms_fixed"), {**always, **of_lots}


def expected_guards(dialect: str) -> Guards:
    """Every trigger as the migrations leave it on this kind of database."""
    return dict(_on_sqlite() if dialect == "sqlite" else _on_postgresql())


async def guards_of(session: ReadSession | WriteSession) -> Guards:
    """Every trigger that this database has, told as ``expected_guards`` does."""
    found: Guards = {}
    for row in await query(session, _TRIGGERS[session.get_bind().dialect.name]):
        told = dict(row)
        named = told.pop("guarded"), told.pop("name")
        found[named] = told | {"text": _in_one_line(told["text"])}
    return found


def _in_one_line(text: str) -> str:
    # Not every space of Unicode: to a database some of them are letters of a name.
    return re.sub(r"[ \t\n\r\f]+", " ", text).strip(" ")


async def audit_guards(session: ReadSession | WriteSession) -> list[Finding]:
    """A finding that names each guard which is missing, is another, or is passed by."""

    async def check() -> list[Finding]:
        dialect = session.get_bind().dialect.name
        found, expected = await guards_of(session), expected_guards(dialect)
        broken = [
            f"{name} on {table} {_what_is_wrong(found.get((table, name)), wanted)}"
            for (table, name), wanted in expected.items()
            if found.get((table, name)) != wanted
        ]
        if past := _PAST_THE_GUARDS.get(dialect):
            broken += [
                f"{row['whose']} writes past them (session_replication_role)"
                for row in await query(session, past)
            ]
        return [Finding(GUARDED, "; ".join(broken))] if broken else []

    return await unstopped(session, GUARDED, check)


def _what_is_wrong(
    found: Mapping[str, object] | None, wanted: Mapping[str, object]
) -> str:
    if found is None:
        return "is missing"
    other = {key: found[key] for key in wanted if found[key] != wanted[key]}
    return f"is another: {other}"

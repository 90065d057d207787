"""What never changes cannot be changed, and new seals tell the terms of lots.

A grant, a use and the terms of a lot are written once, and the books name them only by
their ids: when one of them is altered, nothing else disagrees. So triggers refuse it, as
they do for what is posted, and a seal's second format has the terms of each lot that a
transaction opened. Older seals have no format, which is the first.
"""

from alembic import op

from tallystick.migrations.columns import small
from tallystick.migrations.guards import allow_changes, refuse_changes
from tallystick.migrations.rights import return_rights, take_rights

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_WRITTEN_ONCE = ("credit_grant", "usage_event")
_TERMS = (
    "id, ledger_account_id, amount, priority, bought, effective_at_ms, expires_at_ms"
)
_FIXED = "the terms of a lot are fixed"


def upgrade() -> None:
    op.add_column("journal_seal", small("format", null=True))
    for table in _WRITTEN_ONCE:
        refuse_changes(table)
    if op.get_bind().dialect.name == "postgresql":
        _fix_terms_on_postgresql()
    else:
        _fix_terms_on_sqlite()


def downgrade() -> None:
    """The seals are gone then: nobody before could read the second format."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER lot_terms_fixed ON lot")
        op.execute("DROP FUNCTION refuse_other_terms()")
    else:
        op.execute("DROP TRIGGER lot_refuses_update")
        op.execute("DROP TRIGGER lot_refuses_delete")
    for table in _WRITTEN_ONCE:
        allow_changes(table)
    return_rights()
    allow_changes("journal_seal")
    op.execute("DELETE FROM journal_seal")
    op.execute("UPDATE installation SET seals = 0")
    op.drop_column("journal_seal", "format")
    refuse_changes("journal_seal")
    take_rights()


def _fix_terms_on_postgresql() -> None:
    op.execute(f"""
        CREATE FUNCTION refuse_other_terms() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '{_FIXED}';
        END $$""")
    # For each statement: a charge that names none of the columns pays nothing for it.
    op.execute(
        f"CREATE TRIGGER lot_terms_fixed BEFORE UPDATE OF {_TERMS} OR DELETE OR TRUNCATE"
        " ON lot FOR EACH STATEMENT EXECUTE FUNCTION refuse_other_terms()"
    )


def _fix_terms_on_sqlite() -> None:
    for verb in (f"UPDATE OF {_TERMS}", "DELETE"):
        op.execute(
            f"CREATE TRIGGER lot_refuses_{verb.split()[0].lower()} BEFORE {verb} ON lot"
            f" BEGIN SELECT RAISE(ABORT, '{_FIXED}'); END"
        )

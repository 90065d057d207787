"""Who may change what is posted, by PostgreSQL's own rights: nobody, nor its owner.

Part of revision 0005 and frozen with it. A later step that must rewrite a sealed table
takes the rights back for as long as it lasts (``return_rights``, ``take_rights``).
"""

from alembic import op

_APPEND_ONLY = ("transfer", "ledger_transaction", "journal_seal")
# Whoever has a right: its owner unless it was taken, PUBLIC is the grantee 0.
_TAKE = """
    DO $$
    DECLARE holder record;
    BEGIN
        FOR holder IN
            SELECT DISTINCT granted.grantee
              FROM pg_class, aclexplode(COALESCE(relacl, acldefault('r', relowner)))
                   AS granted
             WHERE pg_class.oid = '{table}'::regclass
        LOOP
            EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM %s',
                           CASE holder.grantee WHEN 0 THEN 'PUBLIC'
                           ELSE quote_ident(pg_get_userbyid(holder.grantee)) END);
        END LOOP;
    END $$"""
_TO_OWNER = """
    DO $$
    BEGIN
        EXECUTE format('GRANT {rights} ON {table} TO %I', (
            SELECT pg_get_userbyid(relowner) FROM pg_class
             WHERE oid = '{table}'::regclass));
    END $$"""


def take_rights() -> None:
    """From everybody. A superuser is asked for no rights; him the triggers refuse."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for table in _APPEND_ONLY:
        op.execute(_TAKE.format(table=table))
    # Who inserts a transfer makes PostgreSQL lock its transaction in the owner's name,
    # and for a lock it asks for the right to update one column, whichever. An id that
    # transfers refer to cannot be changed.
    op.execute(_TO_OWNER.format(rights="UPDATE (id)", table="ledger_transaction"))


def return_rights() -> None:
    """To the owner."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for table in _APPEND_ONLY:
        rights = "UPDATE, DELETE, TRUNCATE"
        op.execute(_TO_OWNER.format(rights=rights, table=table))

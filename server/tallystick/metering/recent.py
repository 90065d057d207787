"""What an audit of what is new sees of uses (``ledger.recent``)."""

from tallystick.ledger.scope import Scope, listed, part


def metering_scope(scope: Scope, dialect: str) -> Scope:
    """The scope with the uses of its transactions, and of its time.

    It has its ``recent`` ids and the ends ``after`` and ``upto``.
    """
    uses = (
        "SELECT id FROM usage_event"  # noqa: S608  # our own words
        f" WHERE id IN ({listed(dialect, 'recent')})"
        " UNION SELECT id FROM usage_event WHERE id > :after AND id <= :upto"
    )
    return scope.with_parts({"usage_event": part("usage_event", f"id IN ({uses})")}, {})

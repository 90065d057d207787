"""Which installation the database belongs to."""

from tallystick.migrations.columns import big, table


def _installation() -> None:
    table("installation", big("id"), big("boots"), big("created_at_ms"))


TABLES = {"installation": _installation}

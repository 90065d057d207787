"""Limits, and what a hold has taken of them."""

import sqlalchemy as sa
from alembic import op

from tallystick.migrations.columns import big, table, text

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_LIMIT = 1 << 62
_TAKEN = {
    "postgresql": (
        "jsonb_array_elements(CAST(hold.limits AS jsonb)) AS one",
        "CAST(one ->> {} AS BIGINT)",
    ),
    "sqlite": ("json_each(hold.limits) AS one", "json_extract(one.value, '$[{}]')"),
}


def upgrade() -> None:
    table(
        "spend_limit",
        big("id"),
        text("subject"),
        text("name"),
        *map(big, ("most", "highest", "used")),
        text("period"),
        big("ends_at_ms", null=True),
        big("window_number"),
        checks={
            "period": "period IN ('total', 'hour', 'day', 'month')",
            "used_not_negative": "used >= 0",
            "used_within_highest": "used <= highest",
            "most_within_highest": "most >= 0 AND most <= highest"
            f" AND highest < {_LIMIT}",
            "total_never_ends": "(ends_at_ms IS NULL) = (period = 'total')",
        },
        unique={"subject_name": ("subject", "name")},
    )
    op.add_column("hold", sa.Column("limits", sa.String(), nullable=True))
    source, member = _TAKEN[op.get_bind().dialect.name]
    names = ("limit_id", "amount", "window_number")
    members = [f"{member.format(n)} AS {name}" for n, name in enumerate(names)]
    op.execute(f"""
        CREATE VIEW hold_limit AS
        SELECT hold.id AS hold_id, {", ".join(members)}
          FROM hold, {source}
         WHERE hold.limits IS NOT NULL""")  # noqa: S608  # our own words


def downgrade() -> None:
    """Forgets all limits."""
    op.execute("DROP VIEW hold_limit")
    op.drop_column("hold", "limits")
    op.drop_table("spend_limit")

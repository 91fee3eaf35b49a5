"""How many days and months the ledger has, told to PostgreSQL: else it takes each row for a day of its own, and sorts all of
them on disk where it has only to sum up each day."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_NAMED = {
    "st_usage_records_day": "(timezone('UTC', created_at))::date",
    "st_usage_records_month": "(date_trunc('month', timezone('UTC', created_at)))::date",
}
# Older servers know no statistics of expressions, and do without.
_SINCE = (14,)


def _knows_them() -> bool:
    bind = op.get_bind()
    return bind.dialect.name == "postgresql" and (bind.dialect.server_version_info or ()) >= _SINCE


def upgrade() -> None:
    if not _knows_them():
        return
    for name, expression in _NAMED.items():
        op.execute(f"CREATE STATISTICS {name} ON ({expression}) FROM usage_records")
    op.execute("ANALYZE usage_records")


def downgrade() -> None:
    if _knows_them():
        for name in _NAMED:
            op.execute(f"DROP STATISTICS {name}")

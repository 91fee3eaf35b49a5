"""Workers whose hearts beat instead of a lease for each generation, cancellations, idempotency keys, costs and budgets.

Existing tables only gain and lose columns and indexes: a rebuilt one would take every row that refers to it along on SQLite.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")
MOMENT = sa.DateTime(timezone=True)
DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def _generation_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("credential_id", TEXT, nullable=True),
        sa.Column("has_events", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("tool_calls", DOCUMENT, server_default="[]", nullable=False),
        sa.Column("cached_tokens", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reasoning_tokens", sa.Integer(), server_default="0", nullable=False),
        sa.Column("cost_nanos", sa.BigInteger(), nullable=True),
    ]


def _usage_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("cached_tokens", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reasoning_tokens", sa.Integer(), server_default="0", nullable=False),
        sa.Column("cost_nanos", sa.BigInteger(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), server_default="0", nullable=False),
        sa.Column("conversation_id", TEXT, nullable=True),
        sa.Column("credential_id", TEXT, nullable=True),
    ]


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("beat", sa.Integer(), nullable=False),
        sa.Column("running", DOCUMENT, nullable=False),
        sa.Column("viewing", DOCUMENT, nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
    )
    op.create_table(
        "cancellations",
        sa.Column("generation_id", TEXT, nullable=False),
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("generation_id", "user_id", name="pk_cancellations"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("fingerprint", TEXT, nullable=False),
        sa.Column("result", DOCUMENT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_idempotency_keys_user_id_users", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    op.create_table(
        "budgets",
        sa.Column("subject_id", TEXT, nullable=False),
        sa.Column("period", TEXT, nullable=False),
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("limit_nanos", sa.BigInteger(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_budgets_user_id_users", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("subject_id", "period", name="pk_budgets"),
    )
    op.create_index("ix_budgets_user_id", "budgets", ["user_id"])
    op.create_table(
        "reservations",
        sa.Column("generation_id", TEXT, nullable=False),
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("credential_id", TEXT, nullable=True),
        sa.Column("amount_nanos", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_reservations_user_id_users", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("generation_id", name="pk_reservations"),
    )
    op.create_index("ix_reservations_user", "reservations", ["user_id"])
    op.drop_index("ix_generations_leases", table_name="generations")
    op.drop_column("generations", "lease_until")
    op.drop_column("generations", "cancel_requested_at")
    for column in _generation_columns():
        op.add_column("generations", column)
    _index("ix_generations_unfinished", "worker_id", "finished_at IS NULL")
    _index("ix_generations_finished", "finished_at", "has_events")
    for column in _usage_columns():
        op.add_column("usage_records", column)
    op.create_index("ix_usage_records_created_at", "usage_records", ["created_at"])
    op.create_index("ix_usage_records_credential", "usage_records", ["credential_id", "created_at"])


def _index(name: str, column: str, where: str) -> None:
    op.create_index(name, "generations", [column], sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def downgrade() -> None:
    for name in ("ix_usage_records_credential", "ix_usage_records_created_at"):
        op.drop_index(name, table_name="usage_records")
    for column in _usage_columns():
        op.drop_column("usage_records", column.name)
    for name in ("ix_generations_finished", "ix_generations_unfinished"):
        op.drop_index(name, table_name="generations")
    for column in _generation_columns():
        op.drop_column("generations", column.name)
    for name in ("lease_until", "cancel_requested_at"):
        op.add_column("generations", sa.Column(name, MOMENT, nullable=True))
    _index("ix_generations_leases", "lease_until", "lease_until IS NOT NULL")
    for table in ("reservations", "budgets", "idempotency_keys", "cancellations", "workers"):
        op.drop_table(table)

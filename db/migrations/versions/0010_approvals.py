"""A person's leave to run a call, and runs that wait for it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")
MOMENT = sa.DateTime(timezone=True)
DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "approvals",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("generation_id", TEXT, nullable=False),
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("conversation_id", TEXT, nullable=True),
        sa.Column("call_id", TEXT, nullable=False),
        sa.Column("tool", TEXT, nullable=False),
        sa.Column("arguments", TEXT, nullable=False),
        sa.Column("changed", TEXT, nullable=True),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("decided_by", TEXT, nullable=True),
        sa.Column("decided_at", MOMENT, nullable=True),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["generation_id"], ["generations.id"], name="fk_approvals_generation_id_generations", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_approvals_user_id_users", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_approvals"),
    )
    op.create_index("ix_approvals_generation_id", "approvals", ["generation_id"])
    op.create_index("ix_approvals_user", "approvals", ["user_id", "id"])
    pending = sa.text("status = 'pending'")
    op.create_index("ix_approvals_pending", "approvals", ["expires_at"], sqlite_where=pending, postgresql_where=pending)
    op.create_table(
        "pauses",
        sa.Column("generation_id", TEXT, nullable=False),
        sa.Column("state", DOCUMENT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["generation_id"], ["generations.id"], name="fk_pauses_generation_id_generations", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("generation_id", name="pk_pauses"),
    )


def downgrade() -> None:
    for table in ("pauses", "approvals"):
        op.drop_table(table)

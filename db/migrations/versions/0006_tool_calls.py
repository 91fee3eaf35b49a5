"""Uses of tools."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "tool_calls",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("generation_id", TEXT, nullable=False),
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("arguments", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("output", TEXT, nullable=False),
        sa.Column("is_error", sa.Boolean(), nullable=False),
        sa.Column("code", TEXT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["generation_id"], ["generations.id"], name="fk_tool_calls_generation_id_generations", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_tool_calls_user_id_users", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_tool_calls"),
    )
    op.create_index("ix_tool_calls_generation_id", "tool_calls", ["generation_id"])
    op.create_index("ix_tool_calls_user_id", "tool_calls", ["user_id"])


def downgrade() -> None:
    op.drop_table("tool_calls")

"""Tools: the servers that have them, and what administrators say of each."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")
MOMENT = sa.DateTime(timezone=True)
DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "tool_servers",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("transport", TEXT, nullable=False),
        sa.Column("url", TEXT, nullable=False),
        sa.Column("ciphertext", TEXT, nullable=True),
        sa.Column("header_names", DOCUMENT, nullable=False),
        sa.Column("tags", DOCUMENT, nullable=False),
        sa.Column("is_configured", sa.Boolean(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tool_servers"),
        sa.UniqueConstraint("name", name="uq_tool_servers_name"),
    )
    op.create_table(
        "tools",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("server_id", TEXT, nullable=False),
        sa.Column("remote_name", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("title", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("parameters", DOCUMENT, nullable=False),
        sa.Column("hints", DOCUMENT, nullable=False),
        sa.Column("problem", TEXT, nullable=False),
        sa.Column("is_listed", sa.Boolean(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("reason", TEXT, nullable=True),
        sa.Column("own_description", TEXT, nullable=True),
        sa.Column("category", TEXT, nullable=True),
        sa.Column("tags", DOCUMENT, nullable=False),
        sa.Column("disallowed_keywords", DOCUMENT, nullable=False),
        sa.Column("require_approval", sa.Boolean(), nullable=True),
        sa.Column("require_approval_for", DOCUMENT, nullable=False),
        sa.Column("metadata", DOCUMENT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["server_id"], ["tool_servers.id"], name="fk_tools_server_id_tool_servers", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_tools"),
        sa.UniqueConstraint("name", name="uq_tools_name"),
        sa.UniqueConstraint("server_id", "remote_name", name="uq_tools_server_id_remote_name"),
    )


def downgrade() -> None:
    for table in ("tools", "tool_servers"):
        op.drop_table(table)

"""Pictures and other files that messages refer to."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "media",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("digest", TEXT, nullable=True),
        sa.Column("mime", TEXT, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("name", TEXT, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_media_user_id_users", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_media"),
        sa.UniqueConstraint("user_id", "digest", name="uq_media_user_id_digest"),
    )
    op.create_index("ix_media_user_id", "media", ["user_id"])


def downgrade() -> None:
    op.drop_table("media")

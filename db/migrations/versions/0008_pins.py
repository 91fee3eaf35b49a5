"""Models that stay in memory."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("catalog_models", sa.Column("is_pinned", sa.Boolean(), nullable=True))


def downgrade() -> None:
    op.drop_column("catalog_models", "is_pinned")

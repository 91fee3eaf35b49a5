"""Passwords, external sign-in, API keys, provider keys, invites, audit.

Existing tables only gain columns and indexes: a rebuilt `users` would take every row that refers to it along on SQLite.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")
MOMENT = sa.DateTime(timezone=True)
DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "audit_records",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("actor_id", TEXT, nullable=True),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("target_id", TEXT, nullable=True),
        sa.Column("details", DOCUMENT, nullable=False),
        sa.Column("request_id", TEXT, nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_records"),
    )
    op.create_index("ix_audit_records_created", "audit_records", ["created_at", "id"])
    op.create_table(
        "api_keys",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("lookup", TEXT, nullable=False),
        sa.Column("secret_hash", TEXT, nullable=False),
        sa.Column("prefix", TEXT, nullable=False),
        sa.Column("suffix", TEXT, nullable=False),
        sa.Column("scopes", DOCUMENT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=True),
        sa.Column("last_used_at", MOMENT, nullable=True),
        sa.Column("revoked_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_api_keys_user_id_users", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("lookup", name="uq_api_keys_lookup"),
    )
    op.create_index("ix_api_keys_user", "api_keys", ["user_id", "created_at"])
    op.create_table(
        "invites",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("created_by", TEXT, nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("used_at", MOMENT, nullable=True),
        sa.Column("used_by", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], name="fk_invites_created_by_users", ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name="pk_invites"),
    )
    op.create_table(
        "provider_keys",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("provider", TEXT, nullable=False),
        sa.Column("origin", TEXT, nullable=False),
        sa.Column("credential_type", TEXT, nullable=False),
        sa.Column("ciphertext", TEXT, nullable=False),
        sa.Column("hint", TEXT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_provider_keys_user_id_users", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_provider_keys"),
        sa.UniqueConstraint("user_id", "provider", name="uq_provider_keys_user_id_provider"),
    )
    op.add_column("refresh_tokens", sa.Column("successor", TEXT, nullable=True))
    op.add_column("users", sa.Column("password_hash", TEXT, nullable=True))
    op.add_column("users", sa.Column("preferred_model", TEXT, nullable=True))
    op.add_column("users", sa.Column("preferences", DOCUMENT, server_default="{}", nullable=False))
    op.add_column("users", sa.Column("issuer", TEXT, nullable=True))
    op.add_column("users", sa.Column("subject", TEXT, nullable=True))
    op.create_index("uq_users_issuer_subject", "users", ["issuer", "subject"], unique=True)


def downgrade() -> None:
    op.drop_index("uq_users_issuer_subject", table_name="users")
    for column in ("subject", "issuer", "preferences", "preferred_model", "password_hash"):
        op.drop_column("users", column)
    op.drop_column("refresh_tokens", "successor")
    for table in ("provider_keys", "invites", "api_keys", "audit_records"):
        op.drop_table(table)

"""Projects, shares, settings, the feed of changes, the search index; items know their parents.

Existing tables only gain columns and indexes: a rebuilt one would take every row that refers to it along on SQLite.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

# What is kept for searching must be made as the code that searches makes it, of whatever day that is.
from db import search

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")
MOMENT = sa.DateTime(timezone=True)
DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")

SQLITE_INDEX = (
    """CREATE VIRTUAL TABLE search_index USING fts5
    (tokens, content='search_entries', content_rowid='id', tokenize='ascii', detail=none)""",
    """CREATE TRIGGER search_entries_added AFTER INSERT ON search_entries BEGIN
    INSERT INTO search_index (rowid, tokens) VALUES (new.id, new.tokens); END""",
    """CREATE TRIGGER search_entries_removed AFTER DELETE ON search_entries BEGIN
    INSERT INTO search_index (search_index, rowid, tokens) VALUES ('delete', old.id, old.tokens); END""",
)


def upgrade() -> None:
    op.create_table(
        "changes",
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("conversation_id", TEXT, nullable=False),
        sa.Column("item_id", TEXT, nullable=True),
        sa.Column("generation_id", TEXT, nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_changes_user_id_users", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "seq", name="pk_changes"),
    )
    op.create_index("ix_changes_created_at", "changes", ["created_at"])
    op.create_table(
        "projects",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("instruction", TEXT, nullable=True),
        sa.Column("is_favorite", sa.Boolean(), nullable=False),
        sa.Column("archived_at", MOMENT, nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_projects_user_id_users", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_projects"),
        sa.UniqueConstraint("user_id", "name", name="uq_projects_user_id_name"),
    )
    op.create_table(
        "user_settings",
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("values", DOCUMENT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_user_settings_user_id_users", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", name="pk_user_settings"),
    )
    op.create_table(
        "shares",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("slug", TEXT, nullable=False),
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("conversation_id", TEXT, nullable=False),
        sa.Column("branch", TEXT, nullable=False),
        sa.Column("branch_id", TEXT, nullable=True),
        sa.Column("item_id", TEXT, nullable=True),
        sa.Column("until_position", sa.Integer(), nullable=True),
        sa.Column("title", TEXT, nullable=True),
        sa.Column("options", DOCUMENT, nullable=False),
        sa.Column("view_count", sa.Integer(), nullable=False),
        sa.Column("last_viewed_at", MOMENT, nullable=True),
        sa.Column("like_count", sa.Integer(), nullable=False),
        sa.Column("unlike_count", sa.Integer(), nullable=False),
        sa.Column("expires_at", MOMENT, nullable=True),
        sa.Column("revoked_at", MOMENT, nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["branch_id"], ["branches.id"], name="fk_shares_branch_id_branches", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name="fk_shares_conversation_id_conversations",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_shares_user_id_users", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_shares"),
        sa.UniqueConstraint("slug", name="uq_shares_slug"),
    )
    op.create_index("ix_shares_conversation_id", "shares", ["conversation_id"])
    op.create_index("ix_shares_branch_id", "shares", ["branch_id"])
    op.create_index("ix_branches_parent_id", "branches", ["parent_id"])
    op.create_index("ix_shares_user", "shares", ["user_id", "id"])
    op.add_column("conversations", sa.Column("is_title_own", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("conversations", sa.Column("project_id", TEXT, nullable=True))
    op.add_column("conversations", sa.Column("referrer", TEXT, nullable=True))
    op.create_index("ix_conversations_project_id", "conversations", ["project_id"])
    op.add_column("items", sa.Column("parent_id", TEXT, nullable=True))
    op.add_column("items", sa.Column("version", sa.Integer(), server_default="1", nullable=False))
    op.add_column("items", sa.Column("rating", TEXT, nullable=True))
    op.add_column("items", sa.Column("rating_comment", TEXT, nullable=True))
    op.create_index("ix_items_siblings", "items", ["conversation_id", "parent_id"])
    op.drop_index("ix_items_conversation_id", table_name="items")
    op.create_index("ix_items_conversation_id", "items", ["conversation_id", "id"])
    # Until now no branch had a parent, so the item before an item is the one before it in its branch.
    op.execute(
        "UPDATE items SET parent_id = (SELECT before.id FROM items AS before"
        " WHERE before.branch_id = items.branch_id AND before.position = items.position - 1)"
    )
    _create_search_index()
    op.add_column("users", sa.Column("last_change", sa.Integer(), server_default="0", nullable=False))


def _create_search_index() -> None:
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    op.create_table(
        "search_entries",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("conversation_id", TEXT, nullable=False),
        sa.Column("item_id", TEXT, nullable=True),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("words", TEXT, nullable=False),
        sa.Column("tokens", sa.String().with_variant(postgresql.TSVECTOR(), "postgresql"), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name="fk_search_entries_conversation_id_conversations",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["item_id"], ["items.id"], name="fk_search_entries_item_id_items", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_search_entries"),
        sa.UniqueConstraint("item_id", name="uq_search_entries_item_id"),
    )
    op.create_index("ix_search_entries_conversation_id", "search_entries", ["conversation_id"])
    if is_postgresql:
        op.create_index("ix_search_entries_tokens", "search_entries", ["tokens"], postgresql_using="gin")
    else:
        for statement in SQLITE_INDEX:
            op.execute(statement)
    search.fill(op.get_bind())


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TABLE search_index")
    op.drop_table("search_entries")
    op.drop_column("users", "last_change")
    op.drop_index("ix_items_siblings", table_name="items")
    op.drop_index("ix_items_conversation_id", table_name="items")
    op.create_index("ix_items_conversation_id", "items", ["conversation_id"])
    op.drop_index("ix_branches_parent_id", table_name="branches")
    for column in ("rating_comment", "rating", "version", "parent_id"):
        op.drop_column("items", column)
    op.drop_index("ix_conversations_project_id", table_name="conversations")
    for column in ("referrer", "project_id", "is_title_own"):
        op.drop_column("conversations", column)
    for table in ("shares", "user_settings", "projects", "changes"):
        op.drop_table(table)

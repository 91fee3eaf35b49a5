"""The catalogue: upstreams, what each of them serves, and the names that users know it by."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, UniqueConstraint, true
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, new_id, now


class ProviderRecord(Base):
    """An upstream. One that `is_configured` stands in the operator's settings, which say all but whether it `is_active`;
    of another `ciphertext` is the sealed key, bound to this row and to `origin`."""

    __tablename__ = "providers"

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("prov"))
    name: Mapped[str] = mapped_column(unique=True)
    vendor: Mapped[str]
    base_url: Mapped[str] = mapped_column(default="")
    origin: Mapped[str] = mapped_column(default="")
    ciphertext: Mapped[str | None]
    hint: Mapped[str | None]
    is_configured: Mapped[bool] = mapped_column(default=True)
    is_active: Mapped[bool] = mapped_column(default=True)
    details: Mapped[dict[str, object]] = mapped_column("metadata", default=dict)
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)


class ProviderModel(Base):
    """One model of one upstream under one public name.

    `model` is what the upstream calls it, `listed` what the upstream says of it, `changes` what administrators have put in
    the place of that, both in the words of `engine.providers.base.ModelInfo`. `is_listed` while the upstream offers it.
    """

    __tablename__ = "provider_models"
    __table_args__ = (UniqueConstraint("provider_id", "model", "name"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("pmdl"))
    provider_id: Mapped[str] = mapped_column(ForeignKey("providers.id", ondelete="CASCADE"))
    model: Mapped[str]
    name: Mapped[str] = mapped_column(index=True)
    listed: Mapped[dict[str, object]] = mapped_column(default=dict)
    changes: Mapped[dict[str, object]] = mapped_column(default=dict)
    is_listed: Mapped[bool] = mapped_column(default=True, server_default=true())
    is_enabled: Mapped[bool] = mapped_column(default=True)
    default_temperature: Mapped[float | None]
    max_tokens: Mapped[int | None]
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None]
    tags: Mapped[list[str]] = mapped_column(default=list)
    weight: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)


class CatalogModel(Base):
    """A public name, and what administrators say of it in place of what its upstreams do. `id` is the name itself.

    `is_pinned` is whether its model stays in memory, null where the operator's settings say that.
    """

    __tablename__ = "catalog_models"

    id: Mapped[str] = mapped_column(primary_key=True)
    changes: Mapped[dict[str, object]] = mapped_column(default=dict)
    is_enabled: Mapped[bool] = mapped_column(default=True)
    fallbacks: Mapped[list[str]] = mapped_column(default=list)
    tags: Mapped[list[str]] = mapped_column(default=list)
    is_changed: Mapped[bool] = mapped_column(default=False)
    is_pinned: Mapped[bool | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)

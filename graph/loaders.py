"""DataLoaders, one set for each operation: what several fields ask for in one turn is read at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property, partial
from typing import TypeAlias, TypeVar

from strawberry.dataloader import DataLoader

from db.models import ApiKey, Approval, Conversation, Generation, Item, Media, Project, ProviderKey, Share
from resolvers import (
    api_keys,
    approvals,
    branches,
    budgets,
    conversations,
    generations,
    items,
    lifecycle,
    media,
    projects,
    provider_keys,
    settings,
    shares,
)
from resolvers.branches import Lineage
from resolvers.budgets import Standing
from resolvers.call import Call
from resolvers.errors import InvalidInput
from resolvers.lifecycle import Status
from resolvers.paging import Page, Window
from resolvers.settings import Settings

K = TypeVar("K")
T = TypeVar("T")
W = TypeVar("W")

# Below the number of parameters that either database takes in one statement.
BATCH = 500

PageKey: TypeAlias = tuple[str, Window]
LineKey: TypeAlias = tuple[str, tuple[Window, str | None]]


def loader(load: Callable[[list[K]], Awaitable[Sequence[T | BaseException]]]) -> DataLoader[K, T]:
    """A loader over one `*_by_ids` operation, which answers in the order of the keys."""
    return DataLoader(load, max_batch_size=BATCH)


async def _by_window(
    load: Callable[[Sequence[str], W], Awaitable[Sequence[Page[T] | None]]], keys: list[tuple[str, W]]
) -> list[Page[T] | BaseException | None]:
    """One read for each window, which is the same for all rows of a list."""
    found: dict[tuple[str, W], Page[T] | BaseException | None] = {}
    for window in dict.fromkeys(window for _, window in keys):
        ids = [id for id, wanted in keys if wanted == window]
        try:
            pages: Sequence[Page[T] | BaseException | None] = await load(ids, window)
        except InvalidInput as error:
            pages = [error] * len(ids)
        found.update(((id, window), page) for id, page in zip(ids, pages, strict=True))
    return [found[key] for key in keys]


class Loaders:
    """Each loader is a `cached_property`, made when a field first asks for it."""

    def __init__(self, call: Call) -> None:
        self._call = call

    @cached_property
    def conversations(self) -> DataLoader[str, Conversation | None]:
        return loader(partial(conversations.by_ids, self._call))

    @cached_property
    def items(self) -> DataLoader[str, Item | None]:
        return loader(partial(items.by_ids, self._call))

    @cached_property
    def media(self) -> DataLoader[str, Media | None]:
        return loader(partial(media.by_ids, self._call))

    @cached_property
    def generations(self) -> DataLoader[str, Generation | None]:
        return loader(partial(generations.by_ids, self._call))

    @cached_property
    def active_generations(self) -> DataLoader[str, Generation | None]:
        """By conversation."""
        return loader(partial(generations.active_by_conversations, self._call))

    @cached_property
    def item_pages(self) -> DataLoader[LineKey, Page[Item] | None]:
        """By conversation, window and name of a branch."""
        return loader(self._item_pages)

    async def _item_pages(self, keys: list[LineKey]) -> list[Page[Item] | BaseException | None]:
        return await _by_window(lambda ids, part: items.pages(self._call, ids, *part), keys)

    @cached_property
    def siblings(self) -> DataLoader[tuple[str, str | None], list[Item]]:
        """By conversation and the item before."""
        return loader(partial(items.alternatives, self._call))

    @cached_property
    def branches(self) -> DataLoader[str, list[Lineage] | None]:
        """By conversation."""
        return loader(partial(branches.by_conversations, self._call))

    @cached_property
    def projects(self) -> DataLoader[str, Project | None]:
        return loader(partial(projects.by_ids, self._call))

    @cached_property
    def api_keys(self) -> DataLoader[str, ApiKey | None]:
        return loader(partial(api_keys.by_ids, self._call))

    @cached_property
    def api_key_pages(self) -> DataLoader[PageKey, Page[ApiKey] | None]:
        """By user and window."""
        return loader(self._api_key_pages)

    async def _api_key_pages(self, keys: list[PageKey]) -> list[Page[ApiKey] | BaseException | None]:
        return await _by_window(partial(api_keys.pages, self._call), keys)

    @cached_property
    def approvals(self) -> DataLoader[str, Approval | None]:
        return loader(partial(approvals.by_ids, self._call))

    @cached_property
    def shares(self) -> DataLoader[str, Share | None]:
        return loader(partial(shares.by_ids, self._call))

    @cached_property
    def conversation_shares(self) -> DataLoader[str, list[Share]]:
        """By conversation."""
        return loader(partial(shares.by_conversations, self._call))

    @cached_property
    def users_settings(self) -> DataLoader[str, Settings | None]:
        """By user."""
        return loader(partial(settings.by_users, self._call))

    @cached_property
    def users_budgets(self) -> DataLoader[str, list[Standing] | None]:
        """By user."""
        return loader(partial(budgets.by_users, self._call))

    @cached_property
    def provider_keys(self) -> DataLoader[str, ProviderKey | None]:
        return loader(partial(provider_keys.by_ids, self._call))

    @cached_property
    def model_statuses(self) -> DataLoader[str, Status | None]:
        """By name."""
        return loader(partial(lifecycle.by_names, self._call))

    @cached_property
    def users_provider_keys(self) -> DataLoader[str, Sequence[ProviderKey] | None]:
        """By user."""
        return loader(partial(provider_keys.by_users, self._call))

    def forget(self) -> None:
        """After a write: what was read before it may have changed."""
        for value in vars(self).values():
            if isinstance(value, DataLoader):
                value.clear_all()

"""Who answers a request: the offers of the model that was named, a caller's own key first, and behind them its fallbacks."""

from __future__ import annotations

from functools import partial

from engine.providers.base import Credential
from engine.providers.registry import Entry
from engine.routing import Candidate, Route, in_turn
from resolvers import provider_keys
from resolvers.call import Call
from resolvers.caller import Caller


async def route(call: Call, caller: Caller, entry: Entry) -> Route:
    """Raises what `candidates` does."""
    media = call.services.media
    return Route(await candidates(call, caller, entry), partial(media.placed, caller.user_id) if media else None)


async def candidates(call: Call, caller: Caller, entry: Entry) -> list[Candidate]:
    """Asks no database where the caller has no keys of their own. Raises Unavailable for a key that cannot be opened."""
    found = await _candidates(call, caller, entry, is_fallback=False)
    for name in entry.fallbacks:
        other = call.services.registry.find(name)
        if other is not None and other.name != entry.name:
            found += await _candidates(call, caller, other, is_fallback=True)
    return found


async def _candidates(call: Call, caller: Caller, entry: Entry, *, is_fallback: bool) -> list[Candidate]:
    offers = in_turn(entry.offers)
    own: dict[str, Credential | None] = {}
    for offer in offers:
        if offer.provider.name not in own:
            own[offer.provider.name] = await provider_keys.credential(call, caller, offer.provider)
    gate = call.services.allowances
    found = [Candidate(entry.name, offer, own[offer.provider.name], is_fallback, gate) for offer in offers]
    # Where the caller pays for themselves they are served first; the order within both halves stays.
    return sorted(found, key=lambda candidate: candidate.credential is None)

"""What tokens cost. Money is counted in whole billionths of a US dollar (nanos): sums of them are exact."""

from __future__ import annotations

from dataclasses import dataclass

from engine.events import Provenance, Usage

# A dollar for a million tokens is so many nanos for one.
NANOS_A_TOKEN = 1000


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars for a million tokens; `cached` for those of the prompt that the upstream had kept, as `prompt` where None."""

    prompt: float
    completion: float
    cached: float | None = None

    def cost(self, usage: Usage) -> int | None:
        """In nanos; None where nobody knows how many tokens there were."""
        if usage.provenance is Provenance.UNKNOWN:
            return None
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        kept = self.prompt if self.cached is None else self.cached
        dollars_a_million = (
            (usage.prompt_tokens - cached) * self.prompt + cached * kept + usage.completion_tokens * self.completion
        )
        return round(dollars_a_million * NANOS_A_TOKEN)

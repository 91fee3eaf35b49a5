"""What tokens cost. Money is counted in whole billionths of a US dollar (nanos): sums of them are exact."""

from __future__ import annotations

from dataclasses import dataclass

from engine.events import Provenance, Usage

NANOS = 1_000_000_000
# A dollar for a million tokens is so many nanos for one.
NANOS_A_TOKEN = 1000
A_MILLION = 1_000_000
# Dollars for one token. What is dearer was meant for a million of them.
HIGHEST_PRICE = 0.01


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
        return self.nanos(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)

    def nanos(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> int:
        """What so many tokens cost; the cached ones are some of the prompt's."""
        cached = min(cached_tokens, prompt_tokens)
        kept = self.prompt if self.cached is None else self.cached
        dollars_a_million = (prompt_tokens - cached) * self.prompt + cached * kept + completion_tokens * self.completion
        return round(dollars_a_million * NANOS_A_TOKEN)


def per_token(prompt: float, completion: float, cached: float | None = None) -> Prices:
    """From US dollars for one token, as upstreams and their price lists write it."""
    return Prices(prompt * A_MILLION, completion * A_MILLION, None if cached is None else cached * A_MILLION)


def dollars(nanos: int | None) -> float | None:
    """For whoever reads it; to be summed up it stays in nanos."""
    return None if nanos is None else nanos / NANOS

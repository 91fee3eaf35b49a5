"""What stands in `model_list`, in LiteLLM's words: public names, who serves them, and what that costs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from engine.prices import HIGHEST_PRICE, Prices, per_token

_COST = Field(default=None, ge=0, le=HIGHEST_PRICE)


class Costs(BaseModel):
    """What a configured model costs, in LiteLLM's words: US dollars for one token."""

    input_cost_per_token: float | None = _COST
    output_cost_per_token: float | None = _COST
    cache_read_input_token_cost: float | None = _COST


def from_environment(value: object) -> object:
    """LiteLLM's way to keep a key out of the file: `os.environ/NAME`. Raises ValueError where there is none of that name."""
    if not isinstance(value, str) or not value.startswith("os.environ/"):
        return value
    name = value.removeprefix("os.environ/")
    if name not in os.environ:
        raise ValueError(f"the environment has no {name}")
    return os.environ[name]


class LitellmParams(Costs):
    """Where a configured model is served, in LiteLLM's words. `model` is `provider/upstream-name`."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    model: str = Field(pattern="^[^/]+/.+$")
    api_base: str | None = None
    api_key: SecretStr | None = None
    weight: float = Field(default=1.0, ge=0, le=1_000_000)

    @field_validator("api_key", mode="before")
    @classmethod
    def _from_environment(cls, value: object) -> object:
        return from_environment(value)


class ConfiguredInfo(Costs):
    """What is said of a configured model."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class ConfiguredModel(BaseModel):
    """One entry of `model_list`: a public name, who serves it, and what it costs."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, protected_namespaces=())

    model_name: str = Field(min_length=1, max_length=200)
    litellm_params: LitellmParams
    model_info: ConfiguredInfo = ConfiguredInfo()

    @property
    def prices(self) -> Prices | None:
        """None where they are not known, which half a price is too. `litellm_params` go before `model_info`."""
        prompt, completion, cached = map(self.cost, Costs.model_fields)
        return per_token(prompt, completion, cached) if prompt is not None and completion is not None else None

    def cost(self, name: str) -> float | None:
        found: float | None = getattr(self.litellm_params, name)
        said: float | None = getattr(self.model_info, name)
        return said if found is None else found


_PARTS: Mapping[str, Collection[str]] = {
    "": ConfiguredModel.model_fields,
    "litellm_params": LitellmParams.model_fields,
    "model_info": ConfiguredInfo.model_fields,
}


def unread(model_list: object) -> Iterator[str]:
    """What the entries of a model list say in vain. What has the wrong shape is told of elsewhere."""
    for entry in model_list if isinstance(model_list, list) else ():
        if not isinstance(entry, dict):
            continue
        name = entry.get("model_name")
        for part, fields in _PARTS.items():
            said = entry.get(part) if part else entry
            for key in said if isinstance(said, dict) else ():
                if key not in fields:
                    yield f"model_list: {name}: {f'{part}.{key}' if part else key} has no effect"
        with contextlib.suppress(ValidationError):
            model = ConfiguredModel.model_validate(entry)
            if model.prices is None and any(map(model.cost, Costs.model_fields)):
                yield f"model_list: {name}: half a price is none; give input_cost_per_token and output_cost_per_token"

"""The upstreams that are known by name: which adapter speaks to them, and where they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Wire(StrEnum):
    """What a server speaks."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    OLLAMA = "ollama"


@dataclass(frozen=True, slots=True)
class Preset:
    """`base_url` is empty where there is no usual place. `names` are what others call it, LiteLLM's prefixes among them."""

    wire: Wire
    base_url: str = ""
    names: tuple[str, ...] = ()


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "openai": Preset(Wire.OPENAI, "https://api.openai.com/v1", ("openai_like", "custom_openai", "custom")),
        "anthropic": Preset(Wire.ANTHROPIC, "https://api.anthropic.com"),
        "ollama": Preset(Wire.OLLAMA, "http://127.0.0.1:11434", ("ollama_chat",)),
        "vllm": Preset(Wire.OPENAI, "http://127.0.0.1:8000/v1", ("hosted_vllm",)),
        "lm_studio": Preset(Wire.OPENAI, "http://127.0.0.1:1234/v1", ("lmstudio",)),
        "llamafile": Preset(Wire.OPENAI, "http://127.0.0.1:8080/v1", ("llama_cpp",)),
        "openrouter": Preset(Wire.OPENAI, "https://openrouter.ai/api/v1"),
        "groq": Preset(Wire.OPENAI, "https://api.groq.com/openai/v1"),
        "mistral": Preset(Wire.OPENAI, "https://api.mistral.ai/v1"),
        "deepseek": Preset(Wire.OPENAI, "https://api.deepseek.com/v1"),
        "together": Preset(Wire.OPENAI, "https://api.together.xyz/v1", ("together_ai", "togetherai")),
        "gemini": Preset(Wire.OPENAI, "https://generativelanguage.googleapis.com/v1beta/openai", ("google",)),
        "xai": Preset(Wire.OPENAI, "https://api.x.ai/v1"),
        "perplexity": Preset(Wire.OPENAI, "https://api.perplexity.ai"),
        "fireworks": Preset(Wire.OPENAI, "https://api.fireworks.ai/inference/v1", ("fireworks_ai",)),
        "deepinfra": Preset(Wire.OPENAI, "https://api.deepinfra.com/v1/openai"),
    }
)
_BY_NAME = {other: name for name, preset in PRESETS.items() for other in (name, *preset.names)}


def vendor(name: str) -> str | None:
    """The name that a known upstream has here; None for an unknown one."""
    return _BY_NAME.get(name.lower())

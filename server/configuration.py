"""The YAML file of settings: found, read, and sorted into what has an effect and what has none."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

from server import model_list, tool_list

DEFAULT_CONFIG = "loquent.yaml"
# Where LiteLLM's files have their fallbacks: a list of `name: [names]`.
_LITELLM_PARTS = ("router_settings", "litellm_settings")


_UNREAD = {"model_list": model_list.unread, "mcp_servers": tool_list.unread}


class SettingsError(Exception):
    """The settings do not hold. One line for each fault; no line shows a value."""


def path(named: str | None) -> Path:
    return Path(named or DEFAULT_CONFIG)


def written(named: str | None, fields: Mapping[str, str]) -> tuple[dict[str, object], list[str]]:
    """The fields that the file sets, under their Python names, and what it holds beside them.

    `named`: the file, if the operator names one. `fields`: names in the environment to Python names. Raises SettingsError.
    """
    file = path(named)
    if not named and not file.is_file():
        return {}, []
    # Late: it takes a megabyte, and many servers have no file.
    import yaml  # noqa: PLC0415

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"LOQUENT_CONFIG: {file} cannot be read ({type(error).__name__})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise SettingsError(f"LOQUENT_CONFIG: {file} is not YAML{where}") from None
    if not isinstance(content, dict):
        raise SettingsError(f"LOQUENT_CONFIG: {file} must hold `name: value` lines")
    return _sorted_out(content, file, fields)


def _sorted_out(
    content: dict[object, object], file: Path, fields: Mapping[str, str]
) -> tuple[dict[str, object], list[str]]:
    written: dict[str, object] = {}
    warnings: list[str] = []
    for key, value in content.items():
        field = fields.get(str(key).upper())
        if field is not None:
            written[field] = value
            if field in _UNREAD:
                warnings += [f"{file}: {line}" for line in _UNREAD[field](value)]
            continue
        if key in _LITELLM_PARTS and isinstance(value, dict):
            written.setdefault("fallbacks", value.get("fallbacks", ()))
            warnings += [f"{file}: {key}.{name} has no effect" for name in value if name != "fallbacks"]
            continue
        near = difflib.get_close_matches(str(key).upper(), fields, n=1)
        hint = f"; did you mean {near[0].lower()}?" if near else ""
        warnings.append(f"{file}: {key} has no effect{hint}")
    return written, warnings

"""LiteLLM's proxy, which is no part of this project: pip brings it into a virtual environment of its own where that is asked for."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

from bench.contenders import ROOT, SERVER_CORE, Contender, Missing, free_port, serving

INSTALL_SECONDS = 900.0
START_SECONDS = 90.0
# Where its virtual environment is, for who has one already.
PLACE = "LITELLM_VENV"
MODEL = "n4d0"


def place() -> Path:
    return Path(os.environ.get(PLACE) or ROOT / "build" / "litellm")


def install() -> None:
    """Returns at once where it is there. Raises Missing where pip cannot bring it."""
    if _program().exists():
        return
    pip = [str(place() / "bin" / "pip"), "install", "litellm[proxy]"]
    for command in ([sys.executable, "-m", "venv", str(place())], pip):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise Missing(f"pip takes longer than {INSTALL_SECONDS:.0f} seconds, so LiteLLM is NOT MEASURED") from error
        except subprocess.CalledProcessError as error:
            reason = str(error.stderr).strip().splitlines()[-1:] or ["it does not say why"]
            raise Missing(f"pip fails, so LiteLLM is NOT MEASURED: {reason[0]}") from error


@contextlib.contextmanager
def proxy(folder: Path, before: Contender) -> Generator[Contender]:
    """With one model, which the fake upstream serves, and without a database. Raises Missing."""
    if not _program().exists():
        raise Missing(f"{place()} has no LiteLLM, so it is NOT MEASURED; --install brings it there by pip")
    port, config = free_port(), folder / "litellm.yaml"
    upstream = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{before.port}/v1", "api_key": "none"}
    # JSON is YAML too.
    config.write_text(json.dumps({"model_list": [{"model_name": MODEL, "litellm_params": upstream}]}))
    command = [str(_program()), f"--config={config}", "--host=127.0.0.1", f"--port={port}"]
    key = f"sk-{secrets.token_hex(32)}"
    # Without the second it would first ask the internet what models cost.
    settings = {"LITELLM_MASTER_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with serving(
        "litellm", command, port, folder, settings, SERVER_CORE, alive="/health/liveliness", patience=START_SECONDS
    ) as running:
        yield dataclasses.replace(running, token=key)


def _program() -> Path:
    return place() / "bin" / "litellm"

"""One llama.cpp server in a process of its own, started by `llama_cpp.py` as a script; imports nothing of ours.

Not in the server's process, because loading holds Python's global lock for its whole time (a second for each gigabyte, in
which no socket is served) and because llama.cpp ends its process on a fault that a file may cause.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TextIO


def _serve(order: dict[str, object], answers: TextIO) -> None:
    import xllamacpp  # noqa: PLC0415 - an optional part

    params = xllamacpp.CommonParams()
    params.model.path = order["path"]
    params.model_alias = {order["name"]}
    params.api_keys = [order["key"]]
    params.n_ctx = order["context_length"]
    params.n_parallel = order["parallel"]
    params.kv_unified = True
    params.embedding = True
    if order["batch"]:
        # A model for embeddings.
        params.n_batch = params.n_ubatch = order["batch"]
    else:
        # A model for chats: its vectors are the mean of what it makes of the words.
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    if order["threads"]:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = order["threads"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.ui = False
    params.endpoint_slots = False
    params.verbosity = -1
    server = xllamacpp.Server(params)
    _say(answers, {"address": server.listening_address})
    # The starter holds the other end of this pipe: it ends with the starter, however that one ends.
    sys.stdin.buffer.read()


def _say(answers: TextIO, answer: dict[str, str]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def main() -> None:
    # A Ctrl-C in a terminal reaches the whole group; when to stop is the starter's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The starter reads one line: what the library may print goes to the log instead, and never fills the pipe.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        _serve(json.loads(sys.stdin.buffer.readline()), answers)
    except ImportError:
        _say(answers, {"error": "missing"})
    except RuntimeError:
        _say(answers, {"error": "refused"})
    # Not sys.exit: nothing here needs tidying, and freeing a model takes its time.
    os._exit(0)


if __name__ == "__main__":
    main()

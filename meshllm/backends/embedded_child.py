"""The child that holds the embedded model: `python -m meshllm.backends.embedded_child`.

It takes one argument, a JSON object with the fields of Settings, prints one JSON line
(`{"ready": …}` or `{"error": …}`), serves until it is ended, and ends with its parent.
The engine is C++: were it to abort, only this process would go.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from meshllm.processes import exit_when_parent_dies

# A disconnect is noticed between batches: small ones make cancelling a prompt quick.
BATCH = 256


@dataclass(frozen=True, slots=True)
class Settings:
    """What the parent decides. `host` is a socket's path when `port` is 0."""

    model: str
    alias: str
    host: str
    port: int
    api_key: str
    threads: int
    parallel: int
    context: int  # tokens for one request
    max_tokens: int  # for requests that bring no limit of their own
    folder: str  # ours alone; goes with the child when the parent cannot remove it

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def main() -> None:
    """Loads, says so, and waits for the end."""
    settings = Settings(**json.loads(sys.argv[1]))
    say = _take_stdout()
    exit_when_parent_dies(partial(shutil.rmtree, settings.folder, ignore_errors=True))
    try:
        server = serve(settings)
    except (ImportError, RuntimeError, ValueError, OSError) as exc:
        say({"error": str(exc) or type(exc).__name__})
        raise SystemExit(1) from exc
    say({"ready": server.listening_address})
    threading.Event().wait()  # the engine works in threads of its own


def serve(settings: Settings) -> Any:
    """Starts xllamacpp's HTTP server; it listens when this returns."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings.model
    params.model_alias = {settings.alias}
    params.hostnames = [settings.host]
    params.port = settings.port
    params.api_keys = [settings.api_key] if settings.api_key else []
    params.n_parallel = settings.parallel
    params.n_ctx = settings.context * settings.parallel
    params.n_predict = settings.max_tokens
    params.n_batch = params.n_ubatch = BATCH
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings.threads
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.ui = False
    params.verbosity = 1  # errors only: at more than that prompts may reach the log
    return xllamacpp.Server(params)


def _take_stdout() -> Any:
    """Keeps stdout for our one line; whatever C++ prints there goes to stderr."""
    line = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        line.write(json.dumps(message) + "\n")
        line.flush()

    return say


if __name__ == "__main__":
    main()

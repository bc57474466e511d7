"""The process that `offline.enrich.local` starts: llama.cpp's server, as long as it is wanted.

    python -m offline.enrich.llama_server MODEL.gguf TOGETHER

It writes its address on a line of standard output, on a free port of this machine alone, and ends
when its standard input does. `xllamacpp` must be importable.
"""

import importlib
import os
import sys
from typing import Final

_TOKENS: Final = 1536
"""Of a prompt and its answer."""


def main(model: str, together: int) -> None:
    """Serves until standard input ends.

    Args:
        model: a GGUF file.
        together: questions that are computed at a time.
    """
    llama = importlib.import_module("xllamacpp")  # no dependency: only this process has it
    settings = llama.CommonParams()
    settings.model.path = model
    settings.hostnames, settings.port = ["127.0.0.1"], 0
    settings.n_ctx, settings.n_parallel = _TOKENS * together, together
    # Threads of llama.cpp spin while they wait for each other, which starves busy machines.
    for threads in (settings.cpuparams, settings.cpuparams_batch):
        threads.n_threads, threads.poll = max(1, (os.cpu_count() or 1) // 2), 0
    settings.ui, settings.warmup, settings.verbosity = False, False, 0
    server = llama.Server(settings)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)  # the server's threads wait for calls


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

"""The command that starts vLLM's own server with our scheduler and our middleware."""

from __future__ import annotations

import sys

from trimtab_engine.config.model import Config
from trimtab_engine.engines.vllm import guesses
from trimtab_engine.gpus.layout import FLAGS

WORKER = "trimtab_engine.engines.vllm.worker.Asked"
SCHEDULER = "trimtab_engine.engines.vllm.scheduler.live_scheduler"
MIDDLEWARE = "trimtab_engine.server.gate.Gate"


def command(config: Config) -> list[str]:
    """`vllm serve` for this configuration, with the interpreter that runs us."""
    server = config.server
    start = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", config.model]
    return [
        *start,
        *("--host", server.host, "--port", str(server.port)),
        *("--served-model-name", config.served_model_name or config.model),
        *("--shutdown-timeout", str(server.drain_seconds)),
        *("--scheduler-cls", SCHEDULER, "--middleware", MIDDLEWARE, "--worker-extension-cls", WORKER),
        *guesses.arguments(config.speculation),
        *_parallel(config),
        *config.engines.vllm.arguments,
    ]


def _parallel(config: Config) -> list[str]:
    """The sizes that the configuration names; vLLM's own defaults hold for the others."""
    named = config.gpus.sizes.items()
    return [word for size, value in named if value is not None for word in (FLAGS[size][0], str(value))]

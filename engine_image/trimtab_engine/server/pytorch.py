"""The program of the PyTorch engine, started by `trimtab-engine serve`: loads the model and serves it by uvicorn."""

from __future__ import annotations

import signal
import sys

import uvicorn

from trimtab_engine.config.model import Config
from trimtab_engine.engines.facts import EngineFacts
from trimtab_engine.engines.pytorch.api import Api
from trimtab_engine.engines.pytorch.generator import Generator
from trimtab_engine.limits.limits import Capacity, Limits
from trimtab_engine.server.gate import Gate
from trimtab_engine.shared.folder import START, read_json, run_folder


def main() -> int:
    folder = run_folder()
    config = Config.model_validate(read_json(folder / START))
    ours = config.engines.pytorch
    generator = Generator(config.model, ours)
    resting = Limits(max_running_requests=ours.running_requests, max_tokens_per_step=ours.tokens_per_step)
    capacity = Capacity(
        running_requests=ours.running_requests, tokens_per_step=ours.tokens_per_step, longest_context=generator.context
    )
    api = Api(generator, model=config.served_model_name or config.model, resting=resting, folder=folder)
    api.metrics.cache(tokens=generator.room, page=ours.page_tokens)
    gate = Gate(api, engine=EngineFacts(name="pytorch", capacity=capacity, resting=resting))
    server = config.server
    # uvicorn raises the signal again when it has finished; that end is a good one.
    signal.signal(signal.SIGTERM, lambda *_: None)
    uvicorn.run(
        gate,
        host=server.host,
        port=server.port,
        timeout_graceful_shutdown=server.drain_seconds,
        log_level="info",
        access_log=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

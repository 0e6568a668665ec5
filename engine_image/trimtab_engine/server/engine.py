"""The program of our own engines, started by `trimtab-engine serve`: loads the model and serves it by uvicorn.

It ends with status 1 when the model cannot be loaded, or when the generation ends by itself, and leaves the reason in
the run folder; the chain goes on with the next engine then.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

import uvicorn

from trimtab_engine.config.engines import BatchingConfig, OnnxConfig
from trimtab_engine.config.model import Config
from trimtab_engine.config.speculation import SpeculationConfig
from trimtab_engine.engines.common.api import Api
from trimtab_engine.engines.common.protocol import Generator
from trimtab_engine.engines.facts import EngineFacts
from trimtab_engine.limits.limits import Capacity, Limits
from trimtab_engine.server.gate import Gate
from trimtab_engine.server.log import log_to_stderr
from trimtab_engine.shared.folder import START, read_json, run_folder, say_why
from trimtab_engine.shared.switched import SwitchFile

log = logging.getLogger("trimtab_engine.engine")


def main(name: str) -> int:
    log_to_stderr()
    folder = run_folder()
    config = Config.model_validate(read_json(folder / START))
    try:
        return Program(name, config, folder).run()
    except Exception as error:  # whatever a library raises, the next engine is tried
        log.exception("%s does not serve", name)
        say_why(folder, f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
        return 1


class Program:
    """One engine, loaded; another `generator` may take the place of the engine's own."""

    def __init__(self, name: str, config: Config, folder: Path, *, generator: Generator | None = None) -> None:
        self._name = name
        self._config = config
        self._folder = folder
        self._sizes: BatchingConfig | OnnxConfig = getattr(config.engines, name)
        self._generator = generator or open_generator(name, config, folder)

    def run(self) -> int:
        """The exit status."""
        config, running, tokens = self._config, self._sizes.running_requests, self._sizes.tokens_per_step
        resting = Limits(max_running_requests=running, max_tokens_per_step=tokens)
        longest = self._generator.context
        capacity = Capacity(running_requests=running, tokens_per_step=tokens, longest_context=longest, adaptive=True)
        died = False

        def end() -> None:
            nonlocal died
            died = True
            say_why(self._folder, "its generation ended")
            server.should_exit = True

        name = config.served_model_name or config.model
        api = Api(
            self._generator, model=name, resting=resting, folder=self._folder, reuse=config.kv_reuse, on_death=end
        )
        facts = EngineFacts(name=self._name, capacity=capacity, resting=resting, attention=self._generator.attention)
        gate = Gate(api, engine=facts, forget=api.sharing.end_all)
        server = uvicorn.Server(
            uvicorn.Config(
                gate,
                host=config.server.host,
                port=config.server.port,
                timeout_graceful_shutdown=config.server.drain_seconds,
                timeout_keep_alive=config.server.keep_alive_seconds,
                log_level="info",
                access_log=False,
            )
        )
        # uvicorn raises the signal again when it has finished; that end is a good one.
        signal.signal(signal.SIGTERM, lambda *_: None)
        server.run()
        return 1 if died or not server.started else 0


def open_generator(name: str, config: Config, folder: Path) -> Generator:
    """Loads the model with the engine of this name; no other engine's libraries are imported."""
    reuse = config.kv_reuse.enabled
    switch = SwitchFile(folder).read()
    # A draft that cannot be used is not loaded.
    speculation = config.speculation if switch is not None and switch.on else SpeculationConfig()
    if name == "deepspeed":
        from trimtab_engine.engines.deepspeed import generator as deepspeed

        return deepspeed.open_generator(config.model, config.engines.deepspeed, reuse=reuse)
    if name == "onnx":
        from trimtab_engine.engines.onnx import generator as onnx

        return onnx.open_generator(config.model, config.engines.onnx, reuse=reuse, speculation=speculation)
    from trimtab_engine.engines.pytorch import generator as pytorch

    return pytorch.open_generator(config.model, config.engines.pytorch, reuse=reuse, speculation=speculation)


if __name__ == "__main__":
    status = main(sys.argv[1])
    if status:
        # Threads of libraries that wait for a process which has gone would keep this one from ending.
        logging.shutdown()
        os._exit(status)

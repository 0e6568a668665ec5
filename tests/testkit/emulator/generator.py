"""The emulated engine as a generator of the serving image: all of our own server, and no model.

`python -m tests.testkit.emulator.generator RUN_FOLDER` serves with the configuration in that folder, as
`trimtab-engine serve` would with PyTorch: uvicorn, the gate with all that it measures, the API, the line. A token is a
byte of the prompt or a character of the answer, and takes the time that the profile says.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trimtab_engine.config.engines import BatchingConfig
from trimtab_engine.config.model import Config
from trimtab_engine.engines.common.metrics import EngineMetrics
from trimtab_engine.engines.common.protocol import Output
from trimtab_engine.engines.common.requests import Wish
from trimtab_engine.engines.facts import Attention
from trimtab_engine.limits.limits import Limits
from trimtab_engine.server.engine import Program
from trimtab_engine.server.log import log_to_stderr
from trimtab_engine.shared.folder import START, VARIABLE, read_json
from trimtab_engine.speculation.acceptance import Guessed

from .engine import Engine, Mailbox, Prompt, output_text
from .faults import read_faults
from .flags import parse
from .metrics import EngineMetrics as Counters
from .scheduler import Finish, Request


class _Passing(Mailbox):
    """Hands each token over as it is made."""

    def __init__(self, on_token: Callable[[bool], None]) -> None:
        super().__init__(1)
        self._on_token = on_token

    def put(self, index: int, tokens: int, finish: Finish | None) -> None:
        self._on_token(finish is not None)


class EmulatedGenerator:
    """Sized as `config` says, with the profile and the faults of the `EMULATOR_*` variables in `environment`.

    The number of a token is the character's own.
    """

    end_tokens: list[int] = []  # noqa: RUF012 - as the protocol has it
    attention = Attention(kernel="none", device="none", why="the engine is emulated")
    unable = "the engine is emulated"
    guessed = Guessed()

    def __init__(self, config: BatchingConfig, environment: Mapping[str, str]) -> None:
        sizes = {
            "--max-num-seqs": config.running_requests,
            "--max-num-batched-tokens": config.tokens_per_step,
            "--kv-cache-memory-bytes": "256M",
        }
        # Nothing is kept between requests, so there is nothing to share or to forget.
        flags = [*(str(word) for pair in sizes.items() for word in pair), "--no-enable-prefix-caching"]
        engine = parse(["serve", "emulated", *flags], environment)
        faults = read_faults(environment, engine.flags)
        self._config = engine
        self._faults = faults
        self._engine: Engine | None = None
        self._stepping: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._requests: dict[str, Request] = {}
        self._source = random.Random(0)
        self.page = engine.limits.block_size
        self.room = engine.limits.kv_blocks * self.page
        self.context = min(engine.limits.max_model_len, self.room)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._engine = Engine(self._config, Counters(self._config), self._faults)
        self._stepping = self._loop.create_task(self._engine.run())

    def stop(self) -> None:
        """Called in another thread."""
        if self._loop is not None and self._stepping is not None:
            self._loop.call_soon_threadsafe(self._stepping.cancel)

    def alive(self) -> bool:
        return self._stepping is not None and not self._stepping.done()

    def take(self, limits: Limits) -> None:
        scheduler = self._running().scheduler
        scheduler.limits = dataclasses.replace(
            scheduler.limits,
            max_num_seqs=limits.max_running_requests,
            max_batched_tokens=limits.max_tokens_per_step,
            long_prefill_token_threshold=limits.long_prompt_tokens_per_step,
        )

    def measure(self, metrics: EngineMetrics) -> None:
        """What there is to measure the API sees."""

    def encode(self, wish: Wish) -> list[int]:
        if wish.kind == "chat":
            messages: list[dict[str, Any]] = [m for m in wish.prompt if isinstance(m, dict)]
            return [*"".join(f"{m['role']}: {m['content']}\n" for m in messages).encode(errors="replace"), *b"> "]
        if isinstance(wish.prompt, str):
            return list(wish.prompt.encode(errors="replace"))
        tokens = [token for token in wish.prompt if isinstance(token, int)]
        if any(not 0 <= token < 256 for token in tokens):
            raise ValueError("a token is a number from 0 to 255")
        return tokens

    def decoder(self) -> Callable[[int], str]:
        return chr

    def cancel(self, name: str) -> None:
        request = self._requests.pop(name, None)
        if request is not None:
            self._running().abort([request])

    def forget(self, scope: int) -> None:
        """There is nothing."""

    def speculate(self, on: bool) -> None:
        """Nothing is guessed."""

    def submit(
        self,
        name: str,
        tokens: list[int],
        wish: Wish,
        *,
        most: int,
        scope: int | None,
        on_output: Callable[[Output], None],
    ) -> None:
        prompt = Prompt(bytes(tokens), 1.0)
        seed = zlib.crc32(prompt.data) if wish.temperature == 0 else self._source.getrandbits(32)
        answer: list[int] = []

        def deliver(finished: bool) -> None:
            answer.append(ord(output_text(seed, len(answer), len(answer) + 1)))
            if finished:
                self._requests.pop(name, None)
            on_output(Output(tokens=answer, finished=finished))

        self._requests[name] = self._running().submit(
            prompt,
            request_id=name,
            mailbox=_Passing(deliver),
            index=0,
            seed=seed,
            output_tokens=most,
            max_tokens=most,
            priority=0,
        )

    def _running(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("the generator has not been started")
        return self._engine


def main(folder: Path) -> int:
    """Serves until it is asked to end."""
    os.environ[VARIABLE] = str(folder)
    log_to_stderr()
    config = Config.model_validate(read_json(folder / START))
    generator = EmulatedGenerator(config.engines.pytorch, os.environ)
    return Program("pytorch", config, folder, generator=generator).run()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

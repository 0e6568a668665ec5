"""Guessing in our own engines: checked before the first request, switched on and off while they serve, counted."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from trimtab_engine.engines.common.metrics import EngineMetrics
from trimtab_engine.engines.common.proof import PROMPTS, TOKENS, parted
from trimtab_engine.engines.common.protocol import Generator, Output
from trimtab_engine.engines.common.requests import Wish
from trimtab_engine.shared.switched import SwitchFile
from trimtab_engine.speculation.acceptance import Guessed
from trimtab_engine.speculation.switch import Switch, Why

log = logging.getLogger("trimtab_engine.engine")

_ASKED = Wish(
    kind="completion",
    prompt="",
    model=None,
    most_tokens=TOKENS,
    temperature=0,
    top_p=1,
    top_k=0,
    stop=(),
    stream=False,
    include_usage=False,
    ignore_eos=True,
)


class Guessing:
    """`begin` it when the generator runs, `look` often. Everything in one event loop."""

    def __init__(self, generator: Generator, folder: Path, metrics: EngineMetrics) -> None:
        self._generator = generator
        self._file = SwitchFile(folder)
        switch = self._file.read()
        self._counters = metrics.speculation() if switch is not None else None
        self._counted = Guessed()

    @property
    def total(self) -> Guessed:
        return self._counted

    async def begin(self) -> None:
        """Guesses are for use only when they change nothing."""
        switch = self._file.read()
        if switch is None or not switch.on:
            self._generator.speculate(False)
            return
        if self._generator.unable:
            self._off(switch, Why.NOT_SUPPORTED, self._generator.unable)
            return
        try:
            switch, objection = await self._proven(switch)
        except Exception as error:  # whatever is wrong with guesses, the engine serves without them
            log.exception("The check of guesses failed")
            objection = f"the check failed: {type(error).__name__}: {error}"[:300]
        if objection:
            self._off(switch, Why.CHECK_FAILED, objection)
            return
        self._file.write(switch)
        log.info("Guesses change nothing over %d tokens, %d of them guessed.", switch.checked, switch.guessed)

    def look(self) -> None:
        """Takes up what the switch says, and tells what came of guessing."""
        self.count()
        switch = self._file.news()
        if switch is not None:
            self._generator.speculate(switch.on)
        if self._counters is None or not self._generator.unable:
            return
        switch = switch or self._file.read()
        if switch is not None and switch.on:
            self._off(switch, Why.FAILED, self._generator.unable)

    def count(self) -> None:
        total = self._generator.guessed
        if self._counters is not None and total != self._counted:
            self._counters.add(total - self._counted)
            self._counted = total

    async def _proven(self, switch: Switch) -> tuple[Switch, str]:
        """The switch with what was compared, and where the answers part."""
        answers = []
        for on in (False, True):
            self._generator.speculate(on)
            before = self._generator.guessed
            answers.append([await self._answer(prompt) for prompt in PROMPTS])
        plain, guessed = answers
        checked = sum(map(len, guessed))
        tokens = (self._generator.guessed - before).tokens
        return replace(switch, checked=checked, guessed=tokens), parted(plain, guessed)

    async def _answer(self, prompt: str) -> list[int]:
        wish = replace(_ASKED, prompt=prompt)
        most = min(TOKENS, self._generator.context // 2)
        tokens = self._generator.encode(wish)[: self._generator.context - most]
        done: asyncio.Future[Output] = asyncio.get_running_loop().create_future()

        def take(output: Output) -> None:
            if output.finished and not done.done():
                done.set_result(output)

        self._generator.submit(f"check-{id(done)}", tokens, wish, most=most, scope=None, on_output=take)
        while not done.done():
            await asyncio.wait({done}, timeout=0.5)
            if not self._generator.alive():
                raise RuntimeError("the generation has ended")
        output = done.result()
        if output.error:
            raise RuntimeError(output.error)
        return output.tokens

    def _off(self, switch: Switch, why: Why, message: str) -> None:
        self._generator.speculate(False)
        told, at = f"Nothing is guessed: {message}.", datetime.now(UTC).isoformat(timespec="milliseconds")
        self._file.write(replace(switch, on=False, why=why, message=told, since=at))
        log.error("Nothing is guessed: %s", message)

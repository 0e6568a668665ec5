"""Guesses of tokens as the server sees them: allowed at the start, judged while it serves, told."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from trimtab_engine.config.model import Config
from trimtab_engine.config.speculation import SpeculationConfig
from trimtab_engine.engines.common.proof import parted
from trimtab_engine.server.control import now
from trimtab_engine.server.metrics import Metrics
from trimtab_engine.shared.board import Boards
from trimtab_engine.shared.leader import Leader
from trimtab_engine.shared.switched import SwitchFile
from trimtab_engine.speculation.acceptance import Acceptance, Guessed
from trimtab_engine.speculation.switch import Switch, Why
from trimtab_engine.speculation.vocabulary import objection

log = logging.getLogger("trimtab_engine.speculation")

Answers = Callable[[str], Awaitable[list[list[int]]]]


def begin(config: Config, folder: Path, *, fault: str = "") -> Config:
    """Leaves in the run folder whether the next engine shall guess; the configuration to start that with.

    `fault` is why it did not come up when it should.
    """
    asked, file = config.speculation, SwitchFile(folder)
    file.path.unlink(missing_ok=True)
    if asked.method == "off":
        return config
    why = Why.FAILED if fault else Why.CHECK_FAILED
    if not fault and asked.draft_model is not None:
        fault = objection(config.model, asked.draft_model)
    if not fault:
        file.write(Switch(method=asked.method, on=True, since=now()))
        return config
    message = f"Nothing is guessed: {fault.rstrip('.')}."
    file.write(Switch(method=asked.method, on=False, why=why, message=message, since=now()))
    log.error("%s", message)
    return config.model_copy(update={"speculation": SpeculationConfig()})


class Speculating:
    """`look` about once a second. `method` is how the engine guesses without having been asked to by us: its own
    arguments say so, and then it is only told. With several API servers one judges."""

    def __init__(self, config: SpeculationConfig, *, folder: Path, metrics: Metrics, method: str = "") -> None:
        self._config = config
        self._file = SwitchFile(folder)
        self._boards = Boards(folder)
        self._metrics = metrics
        self._leader = Leader(folder, "speculation")
        self._switch = self._file.read()
        self._raw = method if self._switch is None else ""
        self._acceptance = Acceptance(config)
        self._total = Guessed()
        self._show()

    @property
    def trouble(self) -> str:
        """What keeps guesses off although they were asked for."""
        switch = self._current()
        return switch.trouble if switch else ""

    def _current(self) -> Switch | None:
        """The switch; the engine may have turned it."""
        self._switch = self._file.news() or self._switch
        return self._switch

    async def prove(self, answers: Answers) -> None:
        """Before the first request: guesses are for use only when they change nothing. `answers` asks the engine, which
        looks at the switch itself."""
        switch = self._current()
        if switch is None or not switch.on or not self._leader.is_me():
            return
        try:
            self._file.write(replace(switch, on=False))
            plain = await answers("without")
            self._file.write(switch)
            before = self._count()
            guessed = await answers("with")
            fault = parted(plain, guessed)
            switch = replace(switch, checked=sum(map(len, guessed)), guessed=(self._count() - before).tokens)
        except Exception as error:  # whatever is wrong with guesses, the engine serves without them
            log.exception("The check of guesses failed")
            fault = f"the check failed: {type(error).__name__}: {error}"[:300]
        if fault:
            message = f"Nothing is guessed: {fault}."
            switch = replace(switch, on=False, why=Why.CHECK_FAILED, message=message, since=now())
            log.error("%s", message)
        else:
            log.info("Guesses change nothing over %d tokens, %d of them guessed.", switch.checked, switch.guessed)
        self._change(switch)
        self._show()

    def _count(self) -> Guessed:
        """What was guessed since the start."""
        self._boards.find()
        return self._boards.read().guessed

    def look(self, at: float) -> None:
        """Takes up what is new, and judges it."""
        self._total = self._count()
        switch = self._current()
        on = switch.on if switch is not None else bool(self._raw)
        self._acceptance.note(at, self._total, on=on)
        if switch is not None and self._leader.is_me():
            self._judge(at, switch)
        self._show()

    def _judge(self, at: float, switch: Switch) -> None:
        found = self._acceptance.objection(at)
        if found:
            message = f"Nothing is guessed for now: {found}"
            self._change(replace(switch, on=False, why=Why.LOW_ACCEPTANCE, message=message, since=now()))
            log.warning("%s", message)
        elif switch.why is Why.LOW_ACCEPTANCE and self._acceptance.rested(at):
            self._change(replace(switch, on=True, why=None, message="", since=now()))
            log.info("Guessing is tried again.")

    def _change(self, switch: Switch) -> None:
        try:
            self._file.write(switch)
        except OSError as error:
            log.error("Guessing stays as it is: the switch cannot be stored: %s", error)
            return
        self._switch = switch

    def shown(self) -> dict[str, Any] | None:
        """What the status tells; None where nobody asked for guesses."""
        switch = self._current()
        if switch is None and not self._raw:
            return None
        switch = switch or Switch(method=self._raw, on=True)
        latest = self._acceptance.latest
        return {
            "method": switch.method,
            "on": switch.on,
            "reason": switch.why.value if switch.why else None,
            "message": switch.message or None,
            "since": switch.since or None,
            "checked": {"tokens": switch.checked, "guessed": switch.guessed} if switch.checked else None,
            "window": {"seconds": self._config.window_seconds, **_told(latest)},
            "total": _told(self._total),
        }

    def brief(self) -> dict[str, Any] | None:
        """What /health tells."""
        shown = self.shown()
        return shown and {name: shown[name] for name in ("method", "on", "reason")}

    def _show(self) -> None:
        shown = self.shown()
        if shown is not None:
            self._metrics.speculation(
                shown["method"], on=shown["on"], why=shown["reason"], rate=self._acceptance.latest.rate
            )

    def close(self) -> None:
        self._leader.close()


def _told(found: Guessed) -> dict[str, Any]:
    rate = found.rate
    return {
        "guessed_tokens": found.tokens,
        "accepted_tokens": found.accepted,
        "acceptance_rate": None if rate is None else round(rate, 4),
    }

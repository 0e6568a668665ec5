"""On which GPUs the engine computes, and what is done when one of them fails."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from trimtab_engine.config.model import Config
from trimtab_engine.config.parallel import HEADS, WITHOUT_GPUS, asked_layout, is_movable, placed
from trimtab_engine.gpus.health import Gpu
from trimtab_engine.gpus.recovery import Action, Decision, Placement, Situation, decide, place
from trimtab_engine.gpus.shape import Heads, Shape, shape_from
from trimtab_engine.server.gpu_watch import GpuWatch
from trimtab_engine.shared.gpus import Recovery, Shown, State, write_state

log = logging.getLogger("trimtab_engine.gpus")

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_REQUANTIZED = ("--quantization", "-q")


class Placer:
    """For the thread that runs the engines. `begin` before each start of one, `look` while it runs."""

    def __init__(self, config: Config, folder: Path, watch: GpuWatch) -> None:
        self._config = config
        self._folder = folder
        self._watch = watch
        self._shape = shape_of(config)
        self._engine: str = config.engines.preference[0]
        self._now = Placement()
        self._restricted = False
        self._contained = 0
        self._recoveries: list[Recovery] = []
        self._restarts = 0
        self._seen = -1

    @property
    def shape(self) -> Shape | None:
        return self._shape

    def begin(self, engine: str) -> str:
        """Chooses the GPUs of an engine that was not tried yet; says why it cannot have any, or nothing."""
        self._engine = engine
        asked, gpus = asked_layout(self._config, engine), self._watch.gpus()
        failed = [gpu for gpu in gpus if not gpu.usable]
        self._restricted = bool(failed) and self._config.gpus.recover and is_movable(self._config, engine)
        self._now = Placement(layout=asked)
        if self._restricted and engine not in WITHOUT_GPUS:
            found = place(asked, gpus, shape=self._shape, heads=self._heads)
            if found is None:
                return f"{engine} cannot compute on the GPUs that are left: {_told(failed)}"
            self._now = found
            log.warning("%s starts with %s. %s", engine, found.layout.sentence(), _told(failed))
        self._settle()
        return ""

    def config(self) -> Config:
        """The configuration with which the engine is started now."""
        return placed(self._config, self._engine, self._now.layout)

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """What the engine finds; only where a GPU has failed it is told which ones to take."""
        if not self._restricted:
            return dict(given)
        if self._engine in WITHOUT_GPUS:
            return {**given, _VISIBLE: ""}
        return {**given, _VISIBLE: ",".join(self._now.gpus)}

    def look(self, *, others: bool, ended: bool = False) -> Decision | None:
        """What follows from a look that came since the last call; None where there was none. After the engine's end
        it waits for one, since what ended the engine may be seen on a GPU only now."""
        if ended and self._watch.watched and not self._watch.absent:
            # The one that may have begun before the end, and one more.
            self._watch.wait_for(self._watch.looks + 2, 2 * self._watch.fresh_seconds)
            if any(gpu.settling for gpu in self._watch.gpus()):
                self._watch.wait_for(self._watch.looks + 1, self._watch.fresh_seconds)
        elif self._watch.looks == self._seen:
            return None
        self._seen = self._watch.looks
        self._settle_first()
        self._show()
        return decide(self._situation(others=others, ended=ended))

    def follow(self, decision: Decision) -> None:
        """Notes what is done, and takes the new placement where the engine starts again."""
        log.error("%s", decision.message)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._recoveries.append(
            Recovery(action=decision.action, cause=decision.cause, message=decision.message, since=now)
        )
        if decision.placement is not None:
            self._restarts += 1
            self._now = decision.placement
            self._restricted = self._restricted or decision.action is Action.FEWER
        self._settle()

    @property
    def _heads(self) -> Heads:
        return HEADS.get(self._engine, Heads.SHARED)

    def _situation(self, *, others: bool, ended: bool) -> Situation:
        gpus = self._config.gpus
        return Situation(
            asked=asked_layout(self._config, self._engine),
            now=self._now,
            gpus=self._watch.gpus(),
            heads=self._heads,
            shape=self._shape,
            ended=ended,
            contained=self._count_contained() > self._contained,
            others=others,
            movable=is_movable(self._config, self._engine),
            recover=gpus.recover,
            restarts=self._restarts,
            most_restarts=gpus.most_restarts,
        )

    def _settle_first(self) -> None:
        """Where an engine computes that was not told: on the first ones. They may be known only after its start."""
        if not self._now.gpus and self._engine not in WITHOUT_GPUS:
            gpus = self._watch.gpus()[: self._now.layout.gpus]
            self._now = replace(self._now, gpus=tuple(gpu.reading.uuid for gpu in gpus))

    def _settle(self) -> None:
        self._settle_first()
        self._contained = self._count_contained()
        self._show()

    def _count_contained(self) -> int:
        return sum(gpu.contained for gpu in self._watch.gpus() if gpu.reading.uuid in self._now.gpus)

    def _show(self) -> None:
        known = (*self._watch.gpus(), *self._watch.others())
        shown = tuple(
            Shown(reading=gpu.reading, assessment=gpu.assessment, in_use=gpu.reading.uuid in self._now.gpus)
            for gpu in sorted(known, key=lambda gpu: gpu.reading.index)
        )
        state = State(
            absent=self._watch.absent,
            asked=asked_layout(self._config, self._engine),
            layout=self._now.layout,
            gpus=shown,
            recoveries=tuple(self._recoveries),
        )
        try:
            write_state(self._folder, state)
        except OSError as error:  # a full disk takes the view of the GPUs, and nothing else
            log.warning("The state of the GPUs cannot be shown: %s", error)


def shape_of(config: Config) -> Shape | None:
    """The model's shape from its folder; None where it is a name on a hub, or the folder says nothing of it. The bytes
    of the weights are not known where the engine makes other ones of them."""
    folder = Path(config.model)
    try:
        document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        files = list(folder.glob("*.safetensors")) or list(folder.glob("*.bin"))
        size = sum(path.stat().st_size for path in files)
    except (OSError, ValueError):
        return None
    requantized = any(word.partition("=")[0] in _REQUANTIZED for word in config.engines.vllm.arguments)
    return shape_from(document, None if requantized else size) if isinstance(document, dict) else None


def _told(failed: Sequence[Gpu]) -> str:
    return " ".join(gpu.sentence() for gpu in failed)

"""The engines, by name. One more is a folder here and an entry in this table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trimtab_engine.config.model import Config
from trimtab_engine.engines import pytorch, vllm
from trimtab_engine.engines.pytorch import command as pytorch_command
from trimtab_engine.engines.vllm import command as vllm_command


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine runs as a process of its own: what it needs, and how it is started."""

    name: str
    libraries: tuple[str, ...]
    command: Callable[[Config], list[str]]


ENGINES: Mapping[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine(name="vllm", libraries=vllm.LIBRARIES, command=vllm_command.command),
        Engine(name="pytorch", libraries=pytorch.LIBRARIES, command=pytorch_command.command),
    )
}

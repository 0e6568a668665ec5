"""The engines, by name. One more is a folder here and an entry in this table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trimtab_engine.config.model import Config
from trimtab_engine.engines import deepspeed, onnx, pytorch, vllm
from trimtab_engine.engines.vllm import command as vllm_command


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine runs as a process of its own: what it needs, and how it is started."""

    name: str
    libraries: tuple[str, ...]
    command: Callable[[Config], list[str]]


def _ours(name: str, libraries: tuple[str, ...]) -> Engine:
    """An engine in our own program, with the interpreter that runs us; its configuration is in the run folder."""
    command = [sys.executable, "-m", "trimtab_engine.server.engine", name]
    return Engine(name=name, libraries=libraries, command=lambda _config: command)


ENGINES: Mapping[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine(name="vllm", libraries=vllm.LIBRARIES, command=vllm_command.command),
        _ours("deepspeed", deepspeed.LIBRARIES),
        _ours("onnx", onnx.LIBRARIES),
        _ours("pytorch", pytorch.LIBRARIES),
    )
}

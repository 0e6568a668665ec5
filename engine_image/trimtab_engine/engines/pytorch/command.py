"""The command that starts the PyTorch engine; its configuration is in the run folder."""

from __future__ import annotations

import sys

from trimtab_engine.config.model import Config


def command(_config: Config) -> list[str]:
    """The engine's own program, with the interpreter that runs us."""
    return [sys.executable, "-m", "trimtab_engine.server.pytorch"]

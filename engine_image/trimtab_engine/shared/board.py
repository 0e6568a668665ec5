"""What the engine's process does, as a few numbers in shared memory that it writes at each step.

Each engine of the server (data-parallel rank) has a board of its own. A reader may see a number of this step beside
one of the last; each number by itself is whole.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path

from trimtab_engine.shared.memory import Found, written
from trimtab_engine.speculation.acceptance import Guessed

_LAYOUT = struct.Struct("=qqqqddqqq")


@dataclass(frozen=True, kw_only=True)
class Notice:
    """One step: limits in force (`revision`), requests, share of the KV cache in use (0 to 1), monotonic seconds; and
    what was guessed since the start: proposals, their tokens, and those that were right."""

    revision: int = 0
    steps: int = 0
    running: int = 0
    waiting: int = 0
    kv_usage: float = 0.0
    at: float = 0.0
    drafts: int = 0
    draft_tokens: int = 0
    accepted_tokens: int = 0

    @property
    def guessed(self) -> Guessed:
        return Guessed(drafts=self.drafts, tokens=self.draft_tokens, accepted=self.accepted_tokens)


_NAMES = tuple(field.name for field in fields(Notice))
_values = attrgetter(*_NAMES)


class Board:
    """The engine's side."""

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self._memory = written(folder / f"board-{rank}", _LAYOUT.size)

    def post(self, notice: Notice) -> None:
        """Shows the notice to the readers."""
        _LAYOUT.pack_into(self._memory, 0, *_values(notice))

    def close(self) -> None:
        self._memory.close()


class Boards:
    """The readers' side. `find` looks which boards there are, `read` takes microseconds."""

    def __init__(self, folder: Path) -> None:
        self._boards = Found(folder, "board-*", _LAYOUT.size)

    def find(self) -> None:
        """Takes up boards that are there since the last call."""
        self._boards.find()

    def read(self) -> Notice:
        """What all engines do, together."""
        return together(
            tuple(Notice(**dict(zip(_NAMES, _LAYOUT.unpack(board), strict=True))) for board in self._boards.all())
        )


def together(notices: tuple[Notice, ...]) -> Notice:
    """One notice for all engines: requests add up, the fullest cache counts, the oldest limits and the latest step."""
    if not notices:
        return Notice()
    return Notice(
        revision=min(notice.revision for notice in notices),
        steps=sum(notice.steps for notice in notices),
        running=sum(notice.running for notice in notices),
        waiting=sum(notice.waiting for notice in notices),
        kv_usage=max(notice.kv_usage for notice in notices),
        at=max(notice.at for notice in notices),
        drafts=sum(notice.drafts for notice in notices),
        draft_tokens=sum(notice.draft_tokens for notice in notices),
        accepted_tokens=sum(notice.accepted_tokens for notice in notices),
    )

"""How the pods of a revision turn out: told by its `--max-num-seqs`, so that a spec alone decides it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

FLAG = "--max-num-seqs"


class Fate(Enum):
    """What becomes of a pod."""

    SERVES = "serves"
    CRASHES = "ends at once, again and again"
    NEVER_READY = "starts and is never ready"
    OOM = "is killed for its memory while it starts"
    PENDING = "finds no node with a free GPU"
    NO_IMAGE = "its image cannot be pulled"
    DIES = "serves for a minute, is killed and does not come back"


@dataclass(frozen=True, kw_only=True)
class Nature:
    """What a pod does, and how it serves. Latencies in seconds."""

    fate: Fate = Fate.SERVES
    start_seconds: float = 20.0
    ttft: float = 0.12
    itl: float = 0.02
    waiting: float = 0.0
    error_share: float = 0.0


GOOD = Nature()
HARMFUL = Nature(ttft=3.0, itl=0.4)
QUEUED = Nature(ttft=2.5, waiting=12.0)  # within nothing: more running sequences would help

NATURES: Mapping[int, Nature] = {
    1: GOOD,
    2: QUEUED,
    3: HARMFUL,
    4: Nature(fate=Fate.CRASHES),
    5: Nature(fate=Fate.NEVER_READY),
    6: Nature(fate=Fate.OOM),
    7: Nature(fate=Fate.PENDING),
    9: Nature(fate=Fate.NO_IMAGE),
    10: Nature(fate=Fate.DIES),
}


def sequences(container: Mapping[str, Any]) -> int:
    """The `--max-num-seqs` of a container; 0 where it has none."""
    words: Sequence[str] = [*(container.get("command") or ()), *(container.get("args") or ())]
    for place, word in enumerate(words):
        if word == FLAG and place + 1 < len(words):
            return int(words[place + 1])
        if word.startswith(f"{FLAG}="):
            return int(word.removeprefix(f"{FLAG}="))
    return 0


def nature_of(pod: Mapping[str, Any], natures: Mapping[int, Nature] = NATURES) -> Nature:
    """The nature of a pod; what is not listed is good."""
    return natures.get(sequences(pod["spec"]["containers"][0]), GOOD)

"""Trimtab's own serving image: vLLM 0.32 behind a layer whose limits change while it serves.

The flags are vLLM's, which the image passes on. The live knobs are the limits of `trimtab_engine.limits.limits.Limits`;
the two share no code, and a contract test holds one against the other. A knob that vLLM 0.32 has both as a flag and as
a limit of the image is live here: the flag would only set what the limit is at the start.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from trimtab.catalogue.engine import EngineCatalogue
from trimtab.catalogue.engines.vllm import VLLM, at_most
from trimtab.catalogue.gpus import Device
from trimtab.catalogue.knob import (
    Applies,
    Choice,
    Default,
    Flag,
    Knob,
    KnobType,
    Rendering,
    Risk,
    Version,
)

VLLM_INSIDE: Final = (0, 32, 0)  # what the image's versions hold

_LIVE: Final = {
    "maxNumActiveSeqs": Flag("max_running_requests", Rendering.LIVE),
    "maxNumScheduledTokens": Flag("max_tokens_per_step", Rendering.LIVE),
    "longPrefillTokenThreshold": Flag("long_prompt_tokens_per_step", Rendering.LIVE),
    "kvWatermarkPercent": Flag("kv_headroom_percent", Rendering.LIVE),
    "maxNumQueuedRequests": Flag("max_queued_requests", Rendering.LIVE),
    "maxWaitMilliseconds": Flag("max_wait_seconds", Rendering.LIVE_SECONDS),
}


def _as_inside(default: Default) -> Default:
    return lambda _version, device: default(VLLM_INSIDE, device)


def _passed_on(knob: Knob, flag: Flag) -> Knob:
    """The knob of vLLM 0.32 as it is in every version of the image."""
    values = tuple(Choice(value) for value in knob.values(VLLM_INSIDE))
    flags = (Flag(flag.name, flag.rendering, flag.key),)
    return replace(knob, flags=flags, choices=values, default=_as_inside(knob.default))


def _live(knob: Knob, **changes: object) -> Knob:
    return replace(knob, flags=(_LIVE[knob.name],), applies=Applies.LIVE, **changes)  # type: ignore[arg-type]


def _no_default(_version: Version, _device: Device) -> None:
    return None


_INSIDE: Final = {
    knob.name: _passed_on(knob, flag) for knob in VLLM.all_knobs if (flag := knob.flag(VLLM_INSIDE)) is not None
}
_LIMITS: Final = (
    _live(_INSIDE["maxNumActiveSeqs"], description="How many sequences run at most, below maxNumSeqs."),
    _live(_INSIDE["maxNumScheduledTokens"], description="The token budget of one step, below maxNumBatchedTokens."),
    _live(_INSIDE["longPrefillTokenThreshold"]),
    _live(_INSIDE["kvWatermarkPercent"], maximum=90),
    _live(
        _INSIDE["maxNumQueuedRequests"],
        description="How many requests may wait before a new one is refused with 429.",
        maximum=1_000_000,
    ),
    Knob(
        name="maxWaitMilliseconds",
        type=KnobType.INTEGER,
        description="The expected wait above which a new request is refused with 429.",
        flags=(_LIVE["maxWaitMilliseconds"],),
        minimum=100,
        maximum=86_400_000,
        unit="ms",
        default=_no_default,
        applies=Applies.LIVE,
        risk=Risk.HIGH,
    ),
)

TRIMTAB: Final = EngineCatalogue(
    name="trimtab",
    title="the serving image of Trimtab",
    scores_text=VLLM.scores_text,
    inside=(VLLM.name, ".".join(map(str, VLLM_INSIDE))),
    since=(0, 1, 0),
    until=(0, 2, 0),
    all_knobs=(*(knob for name, knob in _INSIDE.items() if name not in _LIVE), *_LIMITS),
    conflicts=(*VLLM.conflicts, at_most("maxNumActiveSeqs", "maxNumScheduledTokens")),
)

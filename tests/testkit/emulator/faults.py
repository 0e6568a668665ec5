"""Faults that the emulator plays on demand, from `EMULATOR_*` environment variables.

    EMULATOR_CRASH_ON_START=CODE[:MESSAGE]  prints MESSAGE and exits with CODE instead of starting
    EMULATOR_HANG_ON_START=1                never opens its port
    EMULATOR_DIE_AFTER_SECONDS=S            exits hard S seconds after the port opened, with EMULATOR_DIE_EXIT_CODE (1)
    EMULATOR_HANG_AFTER_SECONDS=S           the engine stops computing after S seconds; HTTP still answers
    EMULATOR_OOM_AFTER_SECONDS=S            really allocates memory until it is killed, at most EMULATOR_OOM_LIMIT_BYTES
                                            (2 GiB), then exits with 137 as the kernel's killer would make it
    EMULATOR_ERROR_RATE=P                   this share of requests is answered with HTTP 500
    EMULATOR_CUT_RATE=P                     this share of answers is cut after the first token
    EMULATOR_LATENCY_FACTOR=F               every step takes F times as long
    EMULATOR_OUTPUT_NOISE=P                 this share of greedy answers differs from the usual ones
    EMULATOR_FAULT_WHEN=CONDITIONS          the faults above only play when all CONDITIONS on the flags hold, such as
                                            "max_num_seqs>16,kv_cache_dtype=fp8"; a flag that was not given is
                                            unequal to everything
    EMULATOR_SEED=N                         fixes which requests the rates hit (0)

So one pod template can hold a fault that only one configuration of the engine shows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_CONDITION = re.compile(r"\s*([a-z0-9_]+)\s*(<=|>=|!=|=|<|>)\s*(\S+)\s*")


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What goes wrong; the default is nothing."""

    crash_code: int | None = None
    crash_message: str = ""
    hang_on_start: bool = False
    die_after: float | None = None
    die_code: int = 1
    hang_after: float | None = None
    oom_after: float | None = None
    oom_limit_bytes: int = 2 << 30
    error_rate: float = 0.0
    cut_rate: float = 0.0
    latency_factor: float = 1.0
    output_noise: float = 0.0
    seed: int = 0


def read_faults(environment: Mapping[str, str], flags: Mapping[str, Any]) -> Faults:
    """The faults that `environment` asks for, given the parsed flags.

    Raises:
        ValueError: a value cannot be read.
    """

    def number(name: str) -> float | None:
        text = environment.get(f"EMULATOR_{name}", "")
        return float(text) if text else None

    seed = int(number("SEED") or 0)
    if not holds(environment.get("EMULATOR_FAULT_WHEN", ""), flags):
        return Faults(seed=seed)
    code, _, message = environment.get("EMULATOR_CRASH_ON_START", "").partition(":")
    return Faults(
        crash_code=int(code) if code else None,
        crash_message=message,
        hang_on_start=environment.get("EMULATOR_HANG_ON_START", "") not in {"", "0"},
        die_after=number("DIE_AFTER_SECONDS"),
        die_code=int(number("DIE_EXIT_CODE") or 1),
        hang_after=number("HANG_AFTER_SECONDS"),
        oom_after=number("OOM_AFTER_SECONDS"),
        oom_limit_bytes=int(number("OOM_LIMIT_BYTES") or 2 << 30),
        error_rate=number("ERROR_RATE") or 0.0,
        cut_rate=number("CUT_RATE") or 0.0,
        latency_factor=number("LATENCY_FACTOR") or 1.0,
        output_noise=number("OUTPUT_NOISE") or 0.0,
        seed=seed,
    )


def holds(conditions: str, flags: Mapping[str, Any]) -> bool:
    """Whether all comma-separated conditions hold; no condition holds always.

    Raises:
        ValueError: a condition is not `flag operator value`.
    """
    return all(_one_holds(condition, flags) for condition in conditions.split(",") if condition.strip())


def _one_holds(condition: str, flags: Mapping[str, Any]) -> bool:
    match = _CONDITION.fullmatch(condition)
    if not match:
        raise ValueError(f"EMULATOR_FAULT_WHEN: {condition!r} is not 'flag operator value'")
    name, operator, wanted = match.groups()
    value = flags.get(name)
    if operator in {"=", "!="}:
        return (str(value).lower() == wanted.lower()) == (operator == "=")
    if value is None:
        return False
    left, right = float(value), float(wanted)
    return {"<": left < right, ">": left > right, "<=": left <= right, ">=": left >= right}[operator]

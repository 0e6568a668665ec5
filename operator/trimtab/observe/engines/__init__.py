"""The engines whose metrics Trimtab reads: one file each, listed here in order of their names."""

from __future__ import annotations

from collections.abc import Iterable

from trimtab.observe.engines import sglang, tgi, trimtab, vllm
from trimtab.observe.engines.spec import Engine

ENGINES: dict[str, Engine] = {
    "sglang": sglang.ENGINE,
    "tgi": tgi.ENGINE,
    "trimtab": trimtab.ENGINE,
    "vllm": vllm.ENGINE,
}


def detected(metric_names: Iterable[str]) -> Engine | None:
    """The engine that exports these metrics; None when none of ours does."""
    names = list(metric_names)
    for engine in ENGINES.values():
        if any(name.startswith(prefix) for name in names for prefix in engine.prefixes):
            return engine
    return None

"""Trimtab's own serving image exports vLLM's names, whichever engine it runs: those of vLLM 0.32, in all its versions.

What it adds says which settings are in force, and whether the settings file is refused
(`trimtab_engine.server.metrics`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from trimtab.observe.engines import vllm
from trimtab.observe.engines.spec import CounterRole, CounterSpec, Engine, GaugeRole, GaugeSpec, Name, metrics_in
from trimtab.observe.promql import Matcher

_INSIDE = (0, 32, 0)


def _names(names: tuple[Name, ...]) -> tuple[Name, ...]:
    return tuple(Name(metric) for metric in metrics_in(names, _INSIDE))


_COUNTERS: Mapping[CounterRole, CounterSpec] = {
    role: replace(spec, names=_names(spec.names)) for role, spec in vllm.COUNTERS.items()
}
_GAUGES: Mapping[GaugeRole, GaugeSpec] = {
    role: replace(spec, names=_names(spec.names)) for role, spec in vllm.GAUGES.items()
}

ENGINE = Engine(
    name="trimtab",
    alive=vllm.ENGINE.alive,
    histograms={role: _names(names) for role, names in vllm.HISTOGRAMS.items()},
    counters={
        **_COUNTERS,
        # Refusals of the image's own, beside those of the engine.
        CounterRole.REFUSED: CounterSpec((Name("trimtab_engine_requests_refused_total"),)),
    },
    gauges={
        **_GAUGES,
        GaugeRole.SETTINGS_ID: GaugeSpec((Name("trimtab_engine_settings_id"),), over="last_over_time", combine="max"),
        GaugeRole.SETTINGS_REFUSED: GaugeSpec(
            (Name("trimtab_engine_degraded"),),
            over="last_over_time",
            combine="max",
            matchers=(Matcher("reason", "=", "settings_refused"),),
        ),
    },
    capacity=vllm.CAPACITY,
)

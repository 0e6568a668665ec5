"""How each engine is started: its command, and the arguments that every start needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from trimtab.api.v1alpha1 import Spec
from trimtab.catalogue.knob import parse_version
from trimtab.model.reason import Reason
from trimtab.render.errors import RenderError

# Where an engine with live knobs finds the settings that it watches.
LIVE_FOLDER, LIVE_FILE = "/etc/trimtab/live", "settings.json"


@dataclass(frozen=True, slots=True)
class Start:
    """`base` gives the arguments that say what is served and where, `environment` what no argument says."""

    command: tuple[str, ...]
    base: Callable[[Spec], tuple[str, ...]]
    environment: Callable[[Spec], Mapping[str, str]] = field(default=lambda _spec: {})


def _vllm(spec: Spec) -> tuple[str, ...]:
    # vLLM drops running requests at SIGTERM unless it is given a time-out. The preStop hook has waited for them by
    # then; this is for the pod whose hook could not run. Known from 0.32 on.
    wait = ("--shutdown-timeout", str(spec.rollout.drain_seconds)) if _at_least(spec, (0, 32, 0)) else ()
    return (spec.model.source or "", "--served-model-name", spec.model.name, "--port", str(spec.engine.port), *wait)


def _sglang(spec: Spec) -> tuple[str, ...]:
    # Its own default is loopback only, and without --enable-metrics there is nothing to observe.
    return (
        *("--model-path", spec.model.source or "", "--served-model-name", spec.model.name),
        *("--host", "0.0.0.0", "--port", str(spec.engine.port), "--enable-metrics"),
    )


def _tgi(spec: Spec) -> tuple[str, ...]:
    return ("--model-id", spec.model.source or "", "--port", str(spec.engine.port))


def _trimtab(spec: Spec) -> tuple[str, ...]:
    # What follows the dashes, the flags of knobs and the user's own arguments among them, is vLLM's.
    return (
        *("--model", spec.model.source or "", "--port", str(spec.engine.port)),
        *("--settings-file", f"{LIVE_FOLDER}/{LIVE_FILE}", "--"),
    )


def _trimtab_environment(spec: Spec) -> Mapping[str, str]:
    return {
        "TRIMTAB_ENGINE_SERVED_MODEL_NAME": spec.model.name,
        "TRIMTAB_ENGINE_SERVER__DRAIN_SECONDS": str(spec.rollout.drain_seconds),
    }


STARTS: dict[str, Start] = {
    "sglang": Start(("python3", "-m", "sglang.launch_server"), _sglang),
    "tgi": Start(("text-generation-launcher",), _tgi),
    "trimtab": Start(("trimtab-engine", "serve"), _trimtab, _trimtab_environment),
    "vllm": Start(("vllm", "serve"), _vllm),
}


def start_of(engine: str) -> Start:
    """Raises RenderError for an engine that is not known."""
    found = STARTS.get(engine)
    if found is None:
        known = ", ".join(STARTS)
        raise RenderError(
            Reason.UNKNOWN_ENGINE, f"The engine {engine!r} is not known. Set spec.engine.name to one of {known}."
        )
    return found


def _at_least(spec: Spec, version: tuple[int, int, int]) -> bool:
    parsed = parse_version(spec.engine.version)
    return parsed is not None and parsed >= version

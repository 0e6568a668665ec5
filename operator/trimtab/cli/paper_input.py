"""From what a person wrote (names, files, `knob=value`) to what the planner is asked with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from trimtab.api.convert import config_of, slo_of
from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.catalogue.engines import find_engine
from trimtab.catalogue.gpus import GPUS, Device, find_device
from trimtab.catalogue.models import find_model
from trimtab.catalogue.models.config_json import ConfigError, read_config
from trimtab.catalogue.models.shape import ModelShape
from trimtab.model.config import KnobValue
from trimtab.model.slo import LatencyTarget
from trimtab.plan.memory.formats import KV_CACHE, WEIGHTS
from trimtab.plan.memory.layout import ENGINES
from trimtab.plan.paper import PaperError, PaperRequest
from trimtab.plan.paper.options import native_formats as native
from trimtab.plan.point import Traffic
from trimtab.plan.request import Bounds, Objective

__all__ = [
    "InputError",
    "device",
    "engine",
    "formats",
    "model",
    "native",
    "plot_path",
    "request_from_manifest",
    "settings",
    "targets",
]

InputError = PaperError

# Knobs of spec.engine.config that a plan on paper understands; others do not change what it predicts.
_UNDERSTOOD = (
    "maxNumSeqs",
    "maxNumBatchedTokens",
    "tensorParallelSize",
    "pipelineParallelSize",
    "dataParallelSize",
    "enableExpertParallel",
)


def engine(name: str, version: str, *, field: str = "engine") -> tuple[str, str]:
    """Name and version of the engine by whose performance one is predicted. Raises InputError."""
    known = find_engine(name)
    found = (name, version) if known is None else known.performs_as(version)
    if found[0] not in ENGINES:
        names = ", ".join(sorted({*ENGINES, "trimtab"}))
        raise InputError(field, f"There is no performance model of {name!r}; there are those of {names}.")
    return found


def model(text: str) -> ModelShape:
    """A model of the registry, or one from its config.json. Raises InputError."""
    if not text:
        raise InputError("model", "Give the model's name on the hub, or the path of its config.json.")
    path = Path(text)
    path = path / "config.json" if path.is_dir() else path
    if path.suffix == ".json":
        return _from_config(path)
    found = find_model(text)
    if found is None:
        raise InputError("model", f"{text!r} is not in the registry. Give the path of its config.json instead.")
    return found


def _from_config(path: Path) -> ModelShape:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError("model", f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(config, dict):
        raise InputError("model", f"{path} holds no JSON object.")
    try:
        return read_config(config, name=str(config.get("_name_or_path") or path.parent.name or "model")).shape
    except ConfigError as error:
        raise InputError("model", f"{path}: {error}") from error


def device(text: str) -> Device:
    """A GPU of the catalogue. Raises InputError."""
    found = find_device(text)
    if not text or found.cpu or found.gpu is None:
        what = (
            "A CPU has no published rates to plan with" if found.cpu and text else f"{text!r} is no GPU that is known"
        )
        raise InputError("gpu", f"{what}. There are: {', '.join(GPUS)}.")
    return found


def targets(texts: Iterable[str]) -> tuple[LatencyTarget, ...]:
    """Raises InputError."""
    try:
        return tuple(LatencyTarget.parse(text) for text in texts)
    except ValueError as error:
        raise InputError("slo", str(error)) from error


def formats(text: str, field: str) -> tuple[str, ...]:
    """A list separated by commas. Raises InputError for a format that is not known."""
    known = ("native", *(WEIGHTS if field == "weights" else KV_CACHE))
    found = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    for word in found:
        if word not in known:
            raise InputError(field, f"{word!r} is no format that is known. There are: {', '.join(known)}.")
    return found


def settings(texts: Iterable[str]) -> dict[str, KnobValue]:
    """`knob=value`, of the knobs that a plan on paper chooses. Raises InputError."""
    found: dict[str, KnobValue] = {}
    for text in texts:
        knob, _, value = text.partition("=")
        if knob not in _UNDERSTOOD:
            raise InputError("set", f"{knob!r} is no knob that can be fixed here. There are: {', '.join(_UNDERSTOOD)}.")
        found[knob] = _value(knob, value.strip())
    return found


def _value(knob: str, text: str) -> KnobValue:
    if knob == "enableExpertParallel":
        if text.lower() not in ("true", "false"):
            raise InputError("set", f"{knob}={text}: it is true or false.")
        return text.lower() == "true"
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise InputError("set", f"{knob}={text}: it is a whole number of 1 or more.")
    return int(text)


def plot_path(path: Path) -> None:
    """Raises InputError for a file that a plot cannot be written to."""
    if path.suffix not in (".png", ".svg"):
        raise InputError("plot", f"{path.name} is neither .png nor .svg.")
    if not path.parent.is_dir():
        raise InputError("plot", f"There is no folder {path.parent}.")


def request_from_manifest(path: Path, gpus: int | None) -> PaperRequest:
    """From an LLMDeployment: its model, accelerator, workload, SLO, objective and the knobs that are locked or bounded.

    GPUs: those that its replicas ask for, unless `gpus` says another number. Raises InputError.
    """
    deployment = _deployment(path)
    spec = deployment.spec
    if spec.accelerator is None or not spec.accelerator.type:
        raise InputError("spec.accelerator.type", f"{path}: say which GPU it is, such as H100.")
    workload = spec.workload
    if workload is None or workload.prompt_tokens is None or workload.output_tokens is None:
        raise InputError("spec.workload", f"{path}: promptTokens and outputTokens are needed to plan on paper.")
    if not workload.requests_per_second_milli:
        raise InputError("spec.workload.requestsPerSecondMilli", f"{path}: the rate is needed to plan on paper.")
    name, version = engine(spec.engine.name, spec.engine.version, field="spec.engine.name")
    config, knobs = config_of(spec), spec.tuning.knobs
    held = {knob: value for knob in knobs.locked or () if (value := config.get(knob)) is not None}
    return PaperRequest(
        model=_served(spec.model.source or spec.model.name),
        device=device(spec.accelerator.type),
        gpus=spec.accelerator.count * max(1, spec.replicas) if gpus is None else gpus,
        engine=name,
        version=version,
        traffic=Traffic(
            prompt=workload.prompt_tokens,
            output=workload.output_tokens,
            rate=workload.requests_per_second_milli / 1000,
        ),
        targets=slo_of(spec).latencies,
        objective=Objective(spec.objective.value),
        max_model_len=_whole(config.get("maxModelLen")),
        fixed={knob: value for knob, value in held.items() if knob in _UNDERSTOOD},
        bounds={name: Bounds(bound.minimum, bound.maximum) for name, bound in (knobs.bounds or {}).items()},
    )


def _served(source: str) -> ModelShape:
    found = find_model(source)
    if found is None:
        raise InputError("spec.model.source", f"{source!r} is not in the registry. Plan with --model PATH/config.json.")
    return found


def _whole(value: KnobValue | None) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _deployment(path: Path) -> LLMDeployment:
    try:
        documents = [d for d in yaml.safe_load_all(path.read_text(encoding="utf-8")) if isinstance(d, Mapping)]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError("file", f"{path} cannot be read: {error}") from error
    found: list[Mapping[str, Any]] = [d for d in documents if d.get("kind") == "LLMDeployment"]
    if len(found) != 1:
        raise InputError("file", f"{path} holds {len(found)} LLMDeployments; give a file with one.")
    try:
        return LLMDeployment.model_validate(found[0])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError("file", f"{path}: {where}: {first['msg']}") from error

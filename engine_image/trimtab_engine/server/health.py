"""What /health says beside the engine's own answer: degraded means that it serves, and not as it should. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# A step of the engine takes milliseconds, and seconds for a very long prompt on a slow machine.
STALLED_AFTER_SECONDS = 30.0
# How long a refusal is told.
REFUSED_WITHIN_SECONDS = 30.0


class Reason(StrEnum):
    """Why the server is degraded, as a label of the metric."""

    SETTINGS_REFUSED = "settings_refused"
    REFUSING = "refusing_requests"
    STALLED = "engine_stalled"
    FALLBACK = "fallback_engine"
    CACHE = "semantic_cache"
    GPU = "gpu_unwell"
    FEWER_GPUS = "fewer_gpus"
    GUESSING = "speculation_off"
    MODEL = "quantized_model"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known: the settings file's problem, seconds since a refusal and since the engine's last step (None:
    never), the requests inside, why engines before this one do not serve, which GPUs are not well, why the engine is
    spread over fewer than it was asked for, what keeps guesses off, and how the model differs from its original."""

    settings_problem: str
    seconds_since_refusal: float | None
    seconds_since_step: float | None
    inside: int
    fallback: str = ""
    cache_problem: str = ""
    gpu_problem: str = ""
    fewer_gpus: str = ""
    guessing_problem: str = ""
    model_problem: str = ""


def degradations(facts: Facts) -> dict[Reason, str]:
    """Each reason with its sentence; empty where all is well."""
    found: dict[Reason, str] = {}
    if facts.fallback:
        found[Reason.FALLBACK] = facts.fallback
    if facts.settings_problem:
        found[Reason.SETTINGS_REFUSED] = f"The settings file changes nothing: {facts.settings_problem}"
    if facts.cache_problem:
        found[Reason.CACHE] = f"The semantic cache does nothing: {facts.cache_problem}"
    if facts.gpu_problem:
        found[Reason.GPU] = facts.gpu_problem
    if facts.fewer_gpus:
        found[Reason.FEWER_GPUS] = facts.fewer_gpus
    if facts.model_problem:
        found[Reason.MODEL] = f"The quantized model is not what its original is: {facts.model_problem}"
    if facts.guessing_problem:
        found[Reason.GUESSING] = facts.guessing_problem
    if facts.seconds_since_refusal is not None and facts.seconds_since_refusal < REFUSED_WITHIN_SECONDS:
        found[Reason.REFUSING] = f"Requests were refused {facts.seconds_since_refusal:.0f} s ago."
    silence = facts.seconds_since_step
    if facts.inside and silence is not None and silence > STALLED_AFTER_SECONDS:
        found[Reason.STALLED] = f"The engine made no step for {silence:.0f} s while {facts.inside} requests are inside."
    return found

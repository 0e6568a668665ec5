"""What the effective configuration limits, for the analysis: what is set, and the engine's defaults otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trimtab.analyse import Limits
from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.catalogue import EngineCatalogue
from trimtab.kube.quantities import whole
from trimtab.model.config import EngineConfig, KnobValue
from trimtab.render import engine_container


def device_of(deployment: LLMDeployment) -> str:
    """What the engine runs on, as the catalogue names it: "cpu", or the type of the accelerator."""
    accelerator = deployment.spec.accelerator
    return "cpu" if accelerator is None else accelerator.type or "gpu"


def limits_of(engine: EngineCatalogue, deployment: LLMDeployment, config: EngineConfig) -> Limits:
    """The limits of a configuration on a pod, as far as they are known: the user's own arguments win over it."""
    spec = deployment.spec.engine
    values: Mapping[str, KnobValue | None] = engine.effective(
        spec.version, device_of(deployment), config, spec.args or ()
    )

    def number(knob: str) -> int | None:
        value = values.get(knob)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def least(*knobs: str) -> int | None:
        """What the engine was started for, or the limit that was set below it."""
        return min((n for knob in knobs if (n := number(knob)) is not None), default=None)

    def flag(knob: str) -> bool | None:
        value = values.get(knob)
        return value if isinstance(value, bool) else None

    dtype = values.get("kvCacheDtype")
    return Limits(
        max_num_seqs=least("maxNumSeqs", "maxNumActiveSeqs"),
        max_num_batched_tokens=least("maxNumBatchedTokens", "maxNumScheduledTokens"),
        max_model_len=number("maxModelLen"),
        prefix_caching=flag("enablePrefixCaching"),
        chunked_prefill=flag("enableChunkedPrefill"),
        kv_cache_dtype=dtype if isinstance(dtype, str) else None,
    )


def memory_limit_of(deployment: LLMDeployment, target: Mapping[str, Any] | None) -> int | None:
    """The memory limit of the engine's container in bytes; None where it has none. `target`: the adopted Deployment."""
    reference = deployment.spec.target_ref
    if target is not None and reference is not None:
        resources = engine_container(target, reference.container).get("resources") or {}
        return whole((resources.get("limits") or {}).get("memory"))
    own = deployment.spec.resources
    return whole((own.limits or {}).get("memory")) if own is not None else None

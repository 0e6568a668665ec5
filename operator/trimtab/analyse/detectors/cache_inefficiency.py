"""CacheInefficiency: prompts long enough to share beginnings are computed anew."""

from __future__ import annotations

from trimtab.analyse.confidence import confidence
from trimtab.analyse.signals import Signals
from trimtab.model.bottleneck import Bottleneck, BottleneckKind, Severity
from trimtab.model.reading import Known
from trimtab.model.wording import number, percent

_LONG_PROMPT = 256.0  # tokens: two blocks of the KV cache on a CPU, below which little can be shared
_LOW_HIT_RATE = 0.1
_EVICTING = 0.8  # KV usage above which cached prefixes are likely to be evicted


def detect(signals: Signals) -> Bottleneck | None:
    """Prefix caching is off; or it is on, hits little, and the cache is too full to keep prefixes."""
    prompt = signals.prompt.mean
    if not isinstance(prompt, Known) or prompt.value < _LONG_PROMPT:
        return None
    if signals.limits.prefix_caching is False:
        output = signals.output.mean
        heavy = isinstance(output, Known) and prompt.value >= 2.0 * output.value
        return Bottleneck(
            BottleneckKind.CACHE_INEFFICIENCY,
            Severity.HIGH if heavy else Severity.MEDIUM,
            min(0.7, confidence(prompt)),  # whether prompts share beginnings shows only when it is tried
            f"Prefix caching is off, so each of the {number(prompt.value)} tokens of an average prompt is computed"
            " anew.",
            {"promptTokensMean": prompt.value},
        )
    hits, usage = signals.hit_rate, signals.kv_usage
    if not isinstance(hits, Known) or not isinstance(usage, Known):
        return None
    if hits.value >= _LOW_HIT_RATE or usage.value < _EVICTING:
        return None
    return Bottleneck(
        BottleneckKind.CACHE_INEFFICIENCY,
        Severity.MEDIUM,
        min(0.6, confidence(prompt, usage)),
        f"Only {percent(hits.value)} of the looked-up prompt tokens are found in the prefix cache while"
        f" {percent(usage.value)} of the KV cache is used: prefixes are evicted before they are asked for again.",
        {"hitRate": hits.value, "kvUsage": usage.value, "promptTokensMean": prompt.value},
    )

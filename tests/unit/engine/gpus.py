"""GPUs and models that are made up, for properties."""

from __future__ import annotations

from hypothesis import strategies as st

from trimtab_engine.gpus.health import Assessment, Gpu, Reason, Verdict
from trimtab_engine.gpus.layout import Layout
from trimtab_engine.gpus.reading import THROTTLE, Reading
from trimtab_engine.gpus.shape import Shape

GIBIBYTE = 1 << 30
SIZES = st.sampled_from([1, 1, 2, 3, 4, 8])
LAYOUTS = st.builds(Layout, tensor=SIZES, pipeline=SIZES, data=SIZES)
KV_HEADS = st.sampled_from([1, 2, 3, 4, 8, 12, 32])
SHAPES = st.builds(
    lambda kv_heads, group, layers, weights: Shape(
        heads=kv_heads * group, kv_heads=kv_heads, layers=layers, weight_bytes=weights
    ),
    KV_HEADS,
    st.sampled_from([1, 2, 4, 7]),
    st.integers(1, 80),
    st.none() | st.integers(1, 400 * GIBIBYTE),
)
COUNTS = st.none() | st.integers(0, 1 << 20)


def uuid(index: int) -> str:
    return f"GPU-{index:08x}"


@st.composite
def readings(draw: st.DrawFn, index: int | None = None) -> Reading:
    """Anything that a look may see of a GPU."""
    at = draw(st.integers(0, 7)) if index is None else index
    return Reading(
        index=at,
        uuid=uuid(at),
        name=draw(st.sampled_from(["", "H100"])),
        memory_used_bytes=draw(COUNTS),
        memory_total_bytes=draw(COUNTS),
        utilization=draw(st.none() | st.floats(0, 1)),
        temperature_celsius=draw(st.none() | st.floats(0, 120)),
        slowdown_celsius=draw(st.none() | st.floats(80, 100)),
        power_watts=draw(st.none() | st.floats(0, 1200)),
        throttle=tuple(draw(st.lists(st.sampled_from(sorted(THROTTLE.values())), unique=True, max_size=3))),
        ecc_uncorrected=draw(st.none() | st.integers(0, 3)),
        retired_pages=draw(COUNTS),
        remapped_rows=draw(COUNTS),
        repair_pending=draw(st.none() | st.booleans()),
        repair_failed=draw(st.sampled_from([None, False, False, True])),
        advice=draw(st.sampled_from(["", "", "", "gpu_reset", "drain_p2p", "node_reboot"])),
        xids=tuple(draw(st.lists(st.sampled_from([13, 31, 43, 48, 63, 74, 79, 94, 95, 500]), max_size=2))),
        lost=draw(st.sampled_from(["", "", "", "", "GPU is lost"])),
        trouble=draw(st.sampled_from(["", "", "Unknown Error"])),
    )


def gpu(index: int, verdict: Verdict = Verdict.OK, *, memory: int | None = 80 * GIBIBYTE) -> Gpu:
    """One that fares so."""
    reason = {Verdict.OK: Reason.NONE, Verdict.DEGRADED: Reason.THROTTLED, Verdict.FAILED: Reason.LOST}[verdict]
    message = "" if verdict is Verdict.OK else "so it is"
    return Gpu(
        reading=Reading(index=index, uuid=uuid(index), memory_total_bytes=memory),
        assessment=Assessment(verdict=verdict, reason=reason, message=message),
    )


@st.composite
def machines(draw: st.DrawFn) -> tuple[Gpu, ...]:
    """Up to 16 GPUs, some of them not well."""
    verdicts = draw(st.lists(st.sampled_from([*Verdict, Verdict.OK]), min_size=0, max_size=16))
    memory = draw(st.sampled_from([24, 80, 141]))
    return tuple(gpu(index, verdict, memory=memory * GIBIBYTE) for index, verdict in enumerate(verdicts))

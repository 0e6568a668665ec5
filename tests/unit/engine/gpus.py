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
THROTTLED = [(), ("sw_power_cap",), ("hw_thermal_slowdown", "sw_power_cap"), tuple(sorted(THROTTLE.values()))]
XIDS: list[tuple[int, ...]] = [
    (),
    (),
    (),
    (13,),
    (31, 43),
    (48,),
    (48, 94),
    (48, 95),
    (63,),
    (74,),
    (79,),
    (94,),
    (500,),
]
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
        memory_used_bytes=draw(COUNTS),
        utilization=draw(st.sampled_from([None, 0.0, 0.37, 1.0])),
        temperature_celsius=draw(st.sampled_from([None, 40, 89.5, 90, 120])),
        slowdown_celsius=draw(st.sampled_from([None, 90])),
        throttle=draw(st.sampled_from(THROTTLED)),
        ecc_uncorrected=draw(st.sampled_from([None, 0, 1, 3])),
        repair_pending=draw(st.sampled_from([None, False, True])),
        repair_failed=draw(st.sampled_from([None, False, False, True])),
        advice=draw(st.sampled_from(["", "", "", "gpu_reset", "drain_p2p", "node_reboot"])),
        xids=draw(st.sampled_from(XIDS)),
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

"""How GPUs fare, from what the looks at them saw."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.engine.gpus import readings, uuid
from trimtab_engine.gpus.health import APPLICATION_XIDS, FATAL_XIDS, QUIET_XIDS, Gpu, Reason, Verdict, after
from trimtab_engine.gpus.reading import Reading, Snapshot, snapshot_from_json, visible

WELL = Reading(index=0, uuid=uuid(0), memory_total_bytes=80, ecc_uncorrected=0, repair_pending=False)
SNAPSHOTS = st.one_of(
    st.builds(Snapshot, gpus=st.sets(st.integers(0, 2), max_size=3).flatmap(lambda at: st.tuples(*map(readings, at)))),
    st.builds(Snapshot, absent=st.just("NVML did not answer within 10 s")),
)


def one(*looks: Reading) -> Gpu:
    """The GPU after these looks."""
    known: dict[str, Gpu] = {}
    for reading in looks:
        known = after(known, Snapshot(gpus=(reading,)))
    return known[looks[0].uuid]


@settings(max_examples=100)
@given(st.lists(SNAPSHOTS, min_size=1, max_size=4))
def test_a_gpu_is_never_forgotten_and_one_that_failed_stays_so(looks: list[Snapshot]) -> None:
    known: dict[str, Gpu] = {}
    for look in looks:
        now = after(known, look)
        assert set(now) == set(known) | {reading.uuid for reading in look.gpus}
        for name, gpu in known.items():
            if not gpu.usable:
                assert now[name].assessment == gpu.assessment
        for gpu in now.values():
            assert (gpu.assessment.verdict is Verdict.OK) == (not gpu.assessment.message)
            assert (gpu.assessment.verdict is Verdict.OK) == (gpu.assessment.reason is Reason.NONE)
        known = now


@settings(max_examples=100)
@given(looks=st.lists(SNAPSHOTS, min_size=1, max_size=4), name=st.integers(0, 2).map(uuid))
def test_what_is_seen_of_one_gpu_says_nothing_of_the_others(looks: list[Snapshot], name: str) -> None:
    whole: dict[str, Gpu] = {}
    alone: dict[str, Gpu] = {}
    for look in looks:
        whole = after(whole, look)
        alone = after(alone, replace(look, gpus=tuple(gpu for gpu in look.gpus if gpu.uuid == name)))
    assert whole.get(name) == alone.get(name)


@settings(max_examples=100)
@given(st.lists(readings(index=0), min_size=1, max_size=5))
def test_a_gpu_fails_only_for_one_of_these_reasons(looks: list[Reading]) -> None:
    found = one(*looks)
    first = looks[0].ecc_uncorrected or 0
    contained = any(94 in reading.xids for reading in looks)
    reasons = [
        any(reading.lost for reading in looks),
        any(FATAL_XIDS.intersection(reading.xids) for reading in looks),
        any(48 in reading.xids for reading in looks),
        any((reading.ecc_uncorrected or 0) > first for reading in looks),
        any(reading.repair_failed for reading in looks),
        any(reading.advice in ("gpu_reset", "node_reboot") for reading in looks),
    ]
    assert found.usable or any(reasons)
    # An uncorrectable error counts from the second look on, unless it was contained.
    told = any(48 in reading.xids for reading in looks[:-1])
    lost = any(min(one.ecc_uncorrected or 0, other.ecc_uncorrected or 0) > first for one, other in pairwise(looks))
    certain = [reasons[0], reasons[1], reasons[4], reasons[5], not contained and (told or lost)]
    assert not found.usable or not any(certain)


@settings(max_examples=100)
@given(xids=st.lists(st.sampled_from(sorted(APPLICATION_XIDS | QUIET_XIDS)), max_size=5), look=readings(index=0))
def test_errors_of_applications_are_no_fault_of_the_gpu(xids: list[int], look: Reading) -> None:
    assert one(replace(look, xids=tuple(xids))).assessment == one(replace(look, xids=())).assessment


@settings(max_examples=100)
@given(SNAPSHOTS)
def test_a_snapshot_comes_back_from_json(look: Snapshot) -> None:
    assert snapshot_from_json(json.loads(json.dumps(look.as_json()))) == look


@pytest.mark.parametrize(
    ("looks", "verdict", "reason", "said"),
    [
        ([WELL], Verdict.OK, Reason.NONE, ""),
        ([replace(WELL, throttle=("sw_power_cap",))], Verdict.OK, Reason.NONE, ""),
        ([replace(WELL, throttle=("hw_thermal_slowdown",))], Verdict.DEGRADED, Reason.THROTTLED, "hw_thermal_slowdown"),
        ([replace(WELL, temperature_celsius=91, slowdown_celsius=90)], Verdict.DEGRADED, Reason.HOT, "91 °C"),
        ([replace(WELL, ecc_uncorrected=2)], Verdict.DEGRADED, Reason.ECC, "2 uncorrectable memory errors before"),
        (
            [WELL, *2 * [replace(WELL, ecc_uncorrected=1)]],
            Verdict.FAILED,
            Reason.ECC,
            "1 uncorrectable memory error since",
        ),
        ([replace(WELL, repair_pending=True)], Verdict.DEGRADED, Reason.REPAIR_PENDING, "at its next reset"),
        ([replace(WELL, repair_failed=True)], Verdict.FAILED, Reason.REPAIR_FAILED, "could not be remapped"),
        ([replace(WELL, advice="gpu_reset")], Verdict.FAILED, Reason.RESET_ADVISED, "recommends: gpu_reset"),
        ([replace(WELL, advice="drain_and_reset")], Verdict.DEGRADED, Reason.RESET_ADVISED, "drain_and_reset"),
        ([replace(WELL, xids=(79,))], Verdict.FAILED, Reason.XID, "Xid 79"),
        ([replace(WELL, xids=(48,)), WELL], Verdict.FAILED, Reason.XID, "Xid 48"),
        # Whether it was contained is told by the next look.
        ([replace(WELL, xids=(48,))], Verdict.DEGRADED, Reason.XID, "Xid 48"),
        ([replace(WELL, xids=(48,)), replace(WELL, xids=(94,))], Verdict.DEGRADED, Reason.XID, "Xid 94"),
        ([replace(WELL, xids=(48,)), replace(WELL, xids=(48,))], Verdict.FAILED, Reason.XID, "Xid 48"),
        ([WELL, replace(WELL, xids=(48, 94), ecc_uncorrected=1)], Verdict.DEGRADED, Reason.XID, "Xid 94"),
        ([replace(WELL, xids=(74,)), WELL], Verdict.DEGRADED, Reason.XID, "Xid 74"),
        ([replace(WELL, trouble="Unknown Error"), WELL], Verdict.OK, Reason.NONE, ""),
        ([replace(WELL, trouble="Unknown Error")], Verdict.DEGRADED, Reason.UNREADABLE, "Unknown Error"),
        ([replace(WELL, lost="GPU is lost"), WELL], Verdict.FAILED, Reason.LOST, "it does not answer: GPU is lost"),
    ],
)
def test_each_finding_has_its_verdict_and_a_sentence(
    looks: list[Reading], verdict: Verdict, reason: Reason, said: str
) -> None:
    found = one(*looks).assessment
    assert (found.verdict, found.reason) == (verdict, reason)
    assert said in found.message


def test_a_gpu_that_is_not_listed_any_more_is_lost_and_nvml_that_is_silent_loses_none() -> None:
    known = after({}, Snapshot(gpus=(WELL, replace(WELL, index=1, uuid=uuid(1)))))
    silent = after(known, Snapshot(absent="NVML did not answer within 10 s"))
    assert [gpu.assessment.reason for gpu in silent.values()] == [Reason.UNREADABLE] * 2
    fewer = after(silent, Snapshot(gpus=(WELL,)))
    assert [gpu.assessment.reason for gpu in fewer.values()] == [Reason.NONE, Reason.LOST]


def test_the_gpus_that_cuda_may_see() -> None:
    gpus = tuple(Reading(index=index, uuid=f"GPU-{index}abc") for index in range(3))
    look = Snapshot(gpus=gpus)
    assert visible(look, None) == gpus
    assert visible(look, " ") == ()
    assert visible(look, "1,GPU-1") is None
    assert visible(look, "2,0") == (gpus[2], gpus[0])
    assert visible(look, "GPU-1") == (gpus[1],)
    assert visible(look, "MIG-1") is None
    assert visible(look, "7") is None
    assert visible(look, "GPU-") is None

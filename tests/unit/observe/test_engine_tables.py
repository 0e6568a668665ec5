"""The tables of metric names: complete, sorted, and right for the recorded engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from trimtab.observe import engines
from trimtab.observe.engines import ENGINES, detected
from trimtab.observe.engines.spec import CounterRole, GaugeRole, HistogramRole, Name, metrics_in, parse_version

RECORDINGS = Path(__file__).parents[2] / "vllm" / "recordings"


def test_the_registry_is_sorted_and_holds_every_file() -> None:
    files = {path.stem for path in Path(engines.__file__).parent.glob("*.py")} - {"__init__", "spec"}
    assert list(ENGINES) == sorted(files)
    assert all(ENGINES[name].name == name for name in ENGINES)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("0.32.0", (0, 32, 0)),
        ("v0.11.0rc1", (0, 11, 0)),
        ("0.32.0+cpu", (0, 32, 0)),
        ("3.3", (3, 3, 0)),
        ("latest", None),
        ("", None),
    ],
)
def test_versions_are_read_as_releases(text: str, version: tuple[int, int, int] | None) -> None:
    assert parse_version(text) == version


def test_names_hold_from_their_first_version_to_before_their_last() -> None:
    names = (Name("new", since=(2, 0, 0)), Name("old", until=(3, 0, 0)))
    assert metrics_in(names, (1, 0, 0)) == ("old",)
    assert metrics_in(names, (2, 5, 0)) == ("new", "old")
    assert metrics_in(names, (3, 0, 0)) == ("new",)
    assert metrics_in(names, None) == ("new", "old")


def test_a_version_before_all_names_is_tried_with_every_name() -> None:
    assert metrics_in((Name("new", since=(2, 0, 0)),), (1, 0, 0)) == ("new",)


def test_vllm_has_every_role() -> None:
    vllm = ENGINES["vllm"]
    assert set(vllm.histograms) == set(HistogramRole)
    assert set(vllm.counters) == set(CounterRole)
    trimtab = {GaugeRole.SETTINGS_ID, GaugeRole.SETTINGS_REFUSED}
    assert set(vllm.gauges) | {GaugeRole.KV_CAPACITY} | trimtab == set(GaugeRole)


def test_the_image_of_trimtab_is_read_by_the_names_of_the_vllm_inside_whatever_its_own_version() -> None:
    ours, vllm, inside = ENGINES["trimtab"], ENGINES["vllm"], (0, 32, 0)
    for role, names in vllm.histograms.items():
        assert metrics_in(ours.histograms[role], (0, 1, 0)) == metrics_in(names, inside), role
    for gauge, spec in vllm.gauges.items():
        assert metrics_in(ours.gauges[gauge].names, (0, 1, 0)) == metrics_in(spec.names, inside), gauge
    assert set(ours.counters) == set(vllm.counters)


def test_a_real_vllm_exports_what_the_table_names() -> None:
    text = (RECORDINGS / "metrics-after-load.txt").read_text()
    samples = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    vllm, version = ENGINES["vllm"], (0, 32, 0)
    only_when_enabled = {CounterRole.SPECULATIVE_STEPS}
    for role, names in vllm.histograms.items():
        for name in metrics_in(names, version):
            assert {f"{name}_bucket", f"{name}_sum"} <= samples, role
    for counter, spec in vllm.counters.items():
        if counter not in only_when_enabled:
            assert set(metrics_in(spec.names, version)) <= samples, counter
    for gauge, form in vllm.gauges.items():
        assert set(metrics_in(form.names, version)) <= samples, gauge
    assert set(metrics_in(vllm.alive, version)) <= samples


def test_an_engine_is_known_by_its_metrics() -> None:
    found = [detected(names) for names in (["up", "vllm:x"], ["sglang:x"], ["tgi_x"], ["up", "go_info"])]
    assert [engine.name if engine else None for engine in found] == ["vllm", "sglang", "tgi", None]

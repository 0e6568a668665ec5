"""The settings file, whatever is in it: cut in half, absurd numbers, no UTF-8. The limits stay, and it is told why."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from trimtab_engine.config.load import load
from trimtab_engine.limits.limits import LIMITS, Capacity, Limits, within
from trimtab_engine.server.control import Control
from trimtab_engine.server.metrics import Metrics

CAPACITY = Capacity(running_requests=64, tokens_per_step=2048, longest_context=4096)
RESTING = Limits(max_running_requests=32, max_tokens_per_step=1024)
WANTED = {"max_running_requests": 16, "max_tokens_per_step": 512, "max_queued_requests": 8}
WHOLE = json.dumps({"id": 7, "limits": WANTED, "classes": {"batch": {"queue_percent": 50}}}).encode()
NUMBERS = st.one_of(
    st.integers(),
    st.integers(min_value=10**300, max_value=10**310),
    st.floats(),
    st.sampled_from([".inf", "-.inf", ".nan", "1e999", "0x7fffffffffffffff", "1_000", "12:30:45", "2026-01-01", "~"]),
)
CONTENTS = st.one_of(
    st.binary(max_size=300),
    st.integers(0, len(WHOLE) - 1).map(lambda cut: WHOLE[:cut]),
    st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=4)).map(
        lambda change: WHOLE[: change[0]] + change[1] + WHOLE[change[0] + 1 :]
    ),
    st.dictionaries(st.sampled_from(LIMITS), NUMBERS, min_size=1).map(
        lambda fields: b"limits:\n" + "".join(f"  {name}: {value}\n" for name, value in fields.items()).encode()
    ),
    st.sampled_from(
        [b"a: &a [*a, *a]\n", b"!!python/object/apply:os.getcwd []", b"- " * 20_000, b"\xff\xfe", b"{" * 9000]
    ),
)


def control(folder: Path) -> Control:
    config = load(None, {}, {"model": "m", "settings_file": str(folder / "settings.yaml")})
    metrics = Metrics(CollectorRegistry())
    return Control(config=config, folder=folder, capacity=CAPACITY, resting=RESTING, metrics=metrics)


@settings(max_examples=300)
@given(CONTENTS)
def test_any_content_is_taken_whole_or_changes_nothing_and_is_told(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one = control(folder)
        path = folder / "settings.yaml"
        path.write_bytes(WHOLE)
        for _ in range(2):
            one.tick()
        before = one.wanted
        assert (before.id, before.limits.max_running_requests, one.settings_problem) == (7, 16, "")
        path.write_bytes(content)
        for _ in range(2):
            one.tick()
        if one.settings_problem:
            assert one.wanted == before
        assert within(one.wanted.limits, CAPACITY) == one.wanted.limits
        # And the next file that is right is taken.
        path.write_bytes(json.dumps({"limits": {"max_running_requests": 3}}).encode())
        for _ in range(2):
            one.tick()
        assert (one.wanted.limits.max_running_requests, one.settings_problem) == (3, "")


@settings(max_examples=200)
@given(st.integers(0, len(WHOLE) - 1))
def test_half_of_a_file_in_json_is_never_taken(cut: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one = control(folder)
        before = one.wanted
        (folder / "settings.yaml").write_bytes(WHOLE[:cut])
        for _ in range(2):
            one.tick()
        assert one.wanted == before
        assert one.settings_problem

"""Steps: their order, their progress, and what a failure says."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.cluster.steps import Progress, Step, StepError, StepsFailed, run_steps, tail


def progress() -> tuple[Progress, list[str]]:
    lines: list[str] = []
    return Progress(write=lines.append, clock=lambda: 0.0), lines


def test_a_step_starts_only_after_the_steps_that_it_waits_for() -> None:
    order: list[str] = []

    def step(name: str, *after: str) -> Step:
        return Step(name, lambda: order.append(name), after)

    run_steps(
        [step("etcd"), step("network"), step("API server", "etcd"), step("kubelet", "API server", "network")],
        progress()[0],
    )
    assert order.index("etcd") < order.index("API server") < order.index("kubelet")
    assert order.index("network") < order.index("kubelet")


def test_steps_that_do_not_wait_for_each_other_run_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=30)

    def meet() -> None:
        meeting.wait()

    run_steps([Step("one", meet), Step("two", meet)], progress()[0])
    assert not meeting.broken


def test_progress_names_each_step_when_it_starts_and_when_it_is_done() -> None:
    shown, lines = progress()
    run_steps([Step("etcd", lambda: "version 3")], shown)
    assert [line.split("] ")[1].split(" (")[0] for line in lines] == ["start: etcd", "done:  etcd"]
    assert lines[-1].endswith(": version 3")


def test_a_failure_names_the_step_its_log_file_and_the_end_of_it(tmp_path: Path) -> None:
    log = tmp_path / "etcd.log"
    log.write_text("\n".join(f"line {number}" for number in range(100)))

    def fail() -> None:
        raise StepError("etcd stopped", log)

    with pytest.raises(StepsFailed) as caught:
        run_steps([Step("etcd", fail)], progress()[0])
    text = str(caught.value)
    assert "step 'etcd' failed: etcd stopped" in text
    assert str(log) in text
    assert "line 99" in text
    assert "line 70" not in text


def test_after_a_failure_nothing_new_starts_and_what_runs_is_ended_once() -> None:
    started: list[str] = []
    ended = threading.Event()
    cancelled: list[bool] = []

    def slow() -> None:
        assert ended.wait(30)

    def fail() -> None:
        raise StepError("no")

    def cancel() -> None:
        cancelled.append(True)
        ended.set()

    steps = [Step("slow", slow), Step("fails", fail), Step("later", lambda: started.append("later"), ("slow", "fails"))]
    with pytest.raises(StepsFailed, match="step 'fails' failed: no"):
        run_steps(steps, progress()[0], cancel=cancel)
    assert started == []
    assert cancelled == [True]


def test_an_interrupt_ends_what_runs_and_is_passed_on() -> None:
    ended = threading.Event()

    def interrupt() -> None:
        raise KeyboardInterrupt

    shown = Progress(write=lambda line: interrupt() if "FAILED" in line else None)

    def fail() -> None:
        raise StepError("no")

    with pytest.raises(KeyboardInterrupt):
        run_steps([Step("fails", fail)], shown, cancel=ended.set)
    assert ended.is_set()


def test_steps_in_the_wrong_order_are_refused_before_any_runs() -> None:
    started: list[str] = []
    with pytest.raises(ValueError, match="waits for"):
        run_steps([Step("kubelet", lambda: started.append("kubelet"), ("etcd",))], progress()[0])
    assert started == []


def test_the_tail_of_a_missing_log_is_empty(tmp_path: Path) -> None:
    assert tail(tmp_path / "none.log") == ""

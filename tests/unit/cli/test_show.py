"""What the command line prints, from resources as the API server hands them out."""

from __future__ import annotations

from typing import Any

from typer.testing import CliRunner

from trimtab.cli import show
from trimtab.cli.main import app
from trimtab.model.bottleneck import Bottleneck, BottleneckKind, Health, Severity, TargetState
from trimtab.model.reading import Known, Unknown, Why
from trimtab.model.slo import Latency, LatencyTarget

PLAN: dict[str, Any] = {
    "metadata": {"name": "chat-1a2b3c4d", "namespace": "serving"},
    "spec": {
        "optimizations": [
            {
                "type": "Batching",
                "title": "Run 16 sequences at once",
                "impact": "Critical",
                "changes": [
                    {"knob": "maxNumSeqs", "from": "1", "to": "16", "reason": "14 requests wait."},
                    {"knob": "maxNumBatchedTokens", "to": "4096", "reason": "Room for prompts."},
                ],
                "trades": ["itl"],
                "risks": ["Each token takes longer."],
            }
        ],
        "rejected": [{"title": "Quantize to int8", "reason": "There is no gain on this device."}],
        "result": {"maxNumSeqs": 16, "maxNumBatchedTokens": 4096, "enforceEager": True},
    },
}
RESOURCE: dict[str, Any] = {
    "metadata": {"name": "chat", "namespace": "serving"},
    "status": {
        "phase": "Stable",
        "summary": "14 requests wait on each pod.",
        "measured": {"waiting": 28, "outputTokensPerSecond": 129},
        "findings": [
            {
                "kind": "QueueBuildup",
                "severity": "High",
                "confidencePercent": 88,
                "message": "14 requests wait on each pod.",
            }
        ],
        "conditions": [{"type": "Ready", "status": "True", "reason": "Reconciled", "message": "2 pods are ready."}],
        "rollout": {
            "stable": {"revision": "rev-a", "config": {"maxNumSeqs": 1, "enforceEager": True, "blockSize": 32}}
        },
        "attempts": [
            {"revision": "rev-b", "source": "User", "outcome": "RolledBack", "message": "TTFT p95 was 9 s."},
        ],
    },
}


def test_an_explanation_reads_from_the_state_to_what_happened() -> None:
    assert list(show.explanation(RESOURCE, PLAN)) == [
        "serving/chat: Stable",
        "  14 requests wait on each pod.",
        "Measured: outputTokensPerSecond 129, waiting 28",
        "High QueueBuildup (88 % confident): 14 requests wait on each pod.",
        "Conditions:",
        "  Ready=True (Reconciled): 2 pods are ready.",
        "Plan chat-1a2b3c4d:",
        "  1. Run 16 sequences at once (Batching, impact Critical)",
        "     maxNumSeqs: 1 -> 16: 14 requests wait.",
        "     maxNumBatchedTokens: (default) -> 4096: Room for prompts.",
        "     trades away: itl",
        "     risk: Each token takes longer.",
        "  rejected: Quantize to int8: There is no gain on this device.",
        "Attempt rev-b (User): RolledBack, TTFT p95 was 9 s.",
    ]


def test_a_resource_that_nobody_has_looked_at_is_told_as_such() -> None:
    lines = list(show.explanation({"metadata": {"name": "new", "namespace": "serving"}}, None))
    assert lines == ["serving/new: not seen by the operator yet"]


def test_a_difference_lists_what_stays_what_goes_and_what_comes() -> None:
    assert list(show.differences(RESOURCE, PLAN)) == [
        "- blockSize: 32",
        "  enforceEager: True",
        "+ maxNumBatchedTokens: 4096",
        "- maxNumSeqs: 1",
        "+ maxNumSeqs: 16",
    ]


def test_a_difference_to_a_resource_that_runs_nothing_yet_is_all_new() -> None:
    lines = list(show.differences({"metadata": {"name": "new", "namespace": "serving"}}, PLAN))
    assert lines == ["+ enforceEager: True", "+ maxNumBatchedTokens: 4096", "+ maxNumSeqs: 16"]


def test_a_diagnosis_names_findings_and_targets_with_their_numbers() -> None:
    queue = Bottleneck(BottleneckKind.QUEUE_BUILDUP, Severity.HIGH, 0.88, "14 requests wait.")
    target = LatencyTarget(Latency.TTFT, 95, 1.0)
    unknown = Unknown(Why.TOO_FEW_SAMPLES, "3 requests.")
    health = Health(
        (queue,),
        (
            TargetState(target, Known(6.4), Known(0.9), met=False),
            TargetState(LatencyTarget(Latency.ITL, 95, 0.2), unknown, unknown, met=None),
        ),
    )
    assert list(show.diagnosis(health)) == [
        "High QueueBuildup (88% confident): 14 requests wait.",
        "ttft.p95: 6400 ms, target 1000 ms",
        "itl.p95: unknown, target 200 ms",
    ]
    assert list(show.diagnosis(Health())) == ["No bottleneck was found."]


VERBS = ("explain", "diff", "approve", "pause", "resume", "rollback", "diagnose")


def test_every_verb_says_what_it_does() -> None:
    runner = CliRunner()
    whole = runner.invoke(app, ["--help"], env={"COLUMNS": "200"})
    assert whole.exit_code == 0
    for verb in VERBS:
        assert verb in whole.stdout
        own = runner.invoke(app, [verb, "--help"], env={"COLUMNS": "200"})
        assert own.exit_code == 0
        assert "Usage" in own.stdout


def test_diagnosing_an_address_that_nobody_serves_is_one_line_and_a_failure() -> None:
    done = CliRunner().invoke(app, ["diagnose", "--metrics", "http://127.0.0.1:1/metrics", "--seconds", "0.1"])
    assert done.exit_code == 1
    assert done.output.count("\n") == 1
    assert done.output.startswith("trimtab: ")


def test_diagnosing_a_file_is_refused() -> None:
    done = CliRunner().invoke(app, ["diagnose", "--metrics", "file:///etc/passwd", "--seconds", "0.1"])
    assert done.exit_code == 1
    assert "http" in done.output


def test_a_tried_plan_shows_what_was_measured_beside_what_was_predicted() -> None:
    effect = {"metric": "ttft", "ratioPermille": 100, "lowPermille": 20, "highPermille": 500, "basis": "queueing"}
    step = {"title": "Run 16 sequences at once", "type": "Batching", "impact": "Critical", "changes": []}
    shown = {"metric": "ttft", "predictedPermille": 100, "measuredPermille": 125}
    tried = {"step": 0, "revision": "rev-b", "outcome": "Promoted", "effects": [shown, {"metric": "throughput"}]}
    plan = {"spec": {"optimizations": [{**step, "effects": [effect]}]}, "status": {"steps": [tried]}}
    assert list(show.plan_lines(plan)) == [
        "1. Run 16 sequences at once (Batching, impact Critical)",
        "   predicted ttft x 0.10 (0.02 to 0.50; queueing)",
        "step 1, revision rev-b: Promoted",
        "   measured ttft x 0.12, predicted x 0.10",
    ]
    on_trial = {"spec": plan["spec"], "status": {"steps": [{"step": 0, "revision": "rev-b"}]}}
    assert list(show.plan_lines(on_trial))[-1] == "step 1, revision rev-b: on trial"


def test_what_is_out_of_reach_and_what_could_not_be_measured_is_told() -> None:
    effect = {"metric": "throughput", "predictedPermille": 2000, "lowPermille": 1500, "highPermille": 2500}
    step = {"step": 0, "revision": "rev-b", "outcome": "Promoted", "effects": [{**effect, "unmeasured": "No queue."}]}
    spec = {**PLAN["spec"], "shortfall": "No allowed configuration is predicted to keep ttft.p95."}
    lines = list(show.plan_lines({**PLAN, "spec": spec, "status": {"steps": [step]}}))
    assert "out of reach: No allowed configuration is predicted to keep ttft.p95." in lines
    assert "   throughput not measured: No queue." in lines

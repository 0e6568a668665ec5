"""Live values in the shell: which pod counts for which revision, whose values are in force, and who is given which."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.api.builders import llmdeployment
from trimtab import render
from trimtab.api import names
from trimtab.api.convert import rollout_state_from, rollout_state_to
from trimtab.catalogue import find_engine
from trimtab.model.config import EngineConfig
from trimtab.model.reading import Known, Reading, Unknown, Why
from trimtab.model.rollout import (
    Candidate,
    Phase,
    RevisionFacts,
    RolloutState,
    Source,
    Stable,
    Strategy,
    TuneLive,
    Wish,
)
from trimtab.model.snapshot import Live, ObservedPod, PodFacts, PodMetrics, RevisionView, Snapshot
from trimtab.reconcile.live import Given, attributed, chosen, given_of, owner_of, with_live
from trimtab.reconcile.wishes import is_live

CONFIG = EngineConfig({"maxNumSeqs": 64, "maxNumActiveSeqs": 4})
TUNED = CONFIG.with_changes({"maxNumActiveSeqs": 8})
_found = find_engine("trimtab")
assert _found is not None
TRIMTAB, VERSION = _found, "0.1.0"

BEGUN = RolloutState(
    phase=Phase.CANARY_STARTING,
    stable=Stable("a", CONFIG, "t"),
    candidate=Candidate("b", TUNED, "t", Source.USER, carrier="a"),
    strategy=Strategy.LIVE,
    strategy_because="2 running pods can take the values without a restart",
)
PROMOTED = replace(BEGUN, phase=Phase.STABLE, stable=Stable("b", TUNED, "t", "a"), candidate=None)
REPLACED = replace(PROMOTED, stable=Stable("c", TUNED, "t2"), previous=Stable("b", TUNED, "t", "a"))


def given(runs: str = "", carrier: str = "a") -> Given:
    return Given(carrier=carrier, annotations={names.RUNS_ANNOTATION: runs} if runs else {}, uid="1")


@pytest.mark.parametrize(
    ("state", "pod", "revision"),
    [
        (BEGUN, given(), "a"),
        (BEGUN, given("b"), "b"),
        (BEGUN, given("z"), "a"),  # left by a trial that no part of the state knows
        (PROMOTED, given("b"), "b"),
        (PROMOTED, given(), "b"),  # a new pod, which is about to get the values
        (PROMOTED, given("z"), "b"),
        (PROMOTED, given(carrier="x"), "x"),
        (REPLACED, given("b"), "b"),
        (REPLACED, given(carrier="c"), "c"),
        (RolloutState(), given("b"), "a"),  # the status was lost
    ],
)
def test_a_pod_counts_for_the_revision_whose_values_it_was_given(
    state: RolloutState, pod: Given, revision: str
) -> None:
    assert attributed(state, pod) == revision


def test_a_workload_stands_for_what_it_carries_and_else_for_itself() -> None:
    assert [owner_of(state, "a") for state in (BEGUN, PROMOTED, REPLACED, RolloutState())] == ["a", "b", "b", "a"]
    assert owner_of(REPLACED, "c") == "c"


def test_the_carrier_outlives_a_restart_of_the_operator() -> None:
    for state in (BEGUN, PROMOTED, REPLACED):
        assert rollout_state_from(rollout_state_to(state)) == state


def metrics(number: Reading[float], refused: float = 0.0) -> PodMetrics:
    return PodMetrics(settings_id=number, settings_refused=Known(refused))


@pytest.mark.parametrize(
    ("readings", "live"),
    [
        (metrics(Known(float(names.settings_id("b")))), Live.IN_FORCE),
        (metrics(Known(float(names.settings_id("a")))), Live.PENDING),
        (metrics(Known(float(names.settings_id("a"))), refused=1.0), Live.REFUSED),
        (metrics(Unknown(Why.STALE, "old")), Live.UNKNOWN),
    ],
)
def test_values_are_in_force_when_the_engine_says_so(readings: PodMetrics, live: Live) -> None:
    pod = PodFacts("one", "b", ready=True)
    view = RevisionView("b", (ObservedPod(pod, readings),))
    snapshot = Snapshot("ns", "chat", 0.0, 60.0, "trimtab", VERSION, (view,))
    revisions = {"b": RevisionFacts("b", 1, (pod,))}
    found = with_live(revisions, snapshot, TRIMTAB)["b"]
    assert found.pods[0].live is live and found.in_force == (live is Live.IN_FORCE)
    vllm = find_engine("vllm")
    assert vllm is not None
    assert with_live(revisions, replace(snapshot, engine_version="0.32.0"), vllm) == revisions


def test_pods_that_have_the_values_keep_them_and_then_the_oldest_ready_ones_get_them() -> None:
    pods = [
        PodFacts("young", "a", ready=True, created_at=30.0),
        PodFacts("old", "a", ready=True, created_at=10.0),
        PodFacts("has", "b", ready=True, created_at=40.0),
        PodFacts("starts", "a", ready=False, created_at=5.0),
        PodFacts("leaves", "a", ready=True, created_at=1.0, terminating=True),
        PodFacts("elsewhere", "c", ready=True, created_at=1.0),
    ]
    known = {pod.name: given() for pod in pods} | {"has": given("b"), "elsewhere": given(carrier="c")}
    # In whatever order the actions come, the one without a number takes what is left.
    asked = [TuneLive("a", "a", CONFIG, None), TuneLive("a", "b", TUNED, 2)]
    got = {name: action.revision for name, action in chosen(asked, pods, known).items()}
    assert got == {"has": "b", "old": "b", "young": "a", "starts": "a"}


@pytest.mark.parametrize(
    ("changes", "template", "live"),
    [
        ({"maxNumActiveSeqs": 8}, "t", True),
        ({"maxNumActiveSeqs": None}, "t", True),
        ({"maxNumActiveSeqs": 8, "maxWaitMilliseconds": 2000}, "t", True),
        ({"maxNumActiveSeqs": 8, "maxNumSeqs": 128}, "t", False),
        ({"maxNumSeqs": 128}, "t", False),
        ({"maxNumActiveSeqs": 8}, "another image", False),
        ({}, "t", False),
    ],
)
def test_only_what_running_pods_take_goes_the_live_way(
    changes: dict[str, int | None], template: str, live: bool
) -> None:
    wish = Wish(CONFIG.with_changes(changes), template, Source.USER, "b")
    state = RolloutState(phase=Phase.STABLE, stable=Stable("a", CONFIG, "t"))
    assert is_live(TRIMTAB, VERSION, wish, state) is live
    vllm = find_engine("vllm")
    assert vllm is not None and not is_live(vllm, "0.32.0", wish, state)


def test_a_pod_is_made_with_the_settings_that_it_is_later_given() -> None:
    deployment = llmdeployment(engine={"name": "trimtab", "version": VERSION, "config": dict(CONFIG)})
    made = render.deployment(deployment, "a", CONFIG, 2)
    metadata, pod = made["spec"]["template"]["metadata"], made["spec"]["template"]["spec"]
    expected = render.live_annotations(TRIMTAB, VERSION, "a", CONFIG)
    assert dict(given_of({"metadata": {**metadata, "uid": "1"}}).annotations) == expected
    [volume] = [volume for volume in pod["volumes"] if "downwardAPI" in volume]
    [mount] = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == volume["name"]]
    file = f"{mount['mountPath']}/{volume['downwardAPI']['items'][0]['path']}"
    arguments = made["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[arguments.index("--settings-file") + 1] == file
    assert arguments[arguments.index("--") + 1 :] == ["--max-num-seqs", "64"], "live values are no arguments"


def test_a_workload_that_is_made_again_has_the_values_that_it_carried() -> None:
    deployment = llmdeployment(engine={"name": "trimtab", "version": VERSION, "config": dict(CONFIG)})
    made = render.deployment(deployment, "a", TUNED, 2, "b")
    assert made["metadata"]["labels"][names.REVISION_LABEL] == "a"
    found = given_of({"metadata": made["spec"]["template"]["metadata"]})
    assert (found.carrier, found.runs) == ("a", "b")
    assert dict(found.annotations) == render.live_annotations(TRIMTAB, VERSION, "b", TUNED)

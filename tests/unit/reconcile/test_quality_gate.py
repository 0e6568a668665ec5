"""The quality gate in the shell: what can be compared, and a trial whose pods are servers that answer like vLLM."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.testkit.client import MODEL_NAME
from tests.testkit.ports import free_port
from tests.testkit.scoring import Manner, ScoringServer
from tests.unit.reconcile.resources import NOW, adopting, candidate, owned, pods, settled, stable, target
from trimtab.api.convert import policy_of, rollout_state_from, rollout_state_to
from trimtab.api.v1alpha1 import PAUSED, LLMDeployment
from trimtab.api.v1alpha1.resources import Metadata
from trimtab.catalogue import ENGINES
from trimtab.kube.client import Object
from trimtab.kube.errors import Forbidden
from trimtab.kube.kinds import CONFIG_MAPS, Kind
from trimtab.model.quality import Probe
from trimtab.model.reading import Known
from trimtab.model.reason import Reason
from trimtab.model.rollout import Phase, RevisionFacts, RolloutFacts, RolloutState, Source, Wish
from trimtab.model.snapshot import ObservedPod, PodFacts, PodMetrics, RevisionView, Snapshot
from trimtab.model.verdict import Call, Verdict
from trimtab.observe.http import Limits
from trimtab.observe.probing import Prober
from trimtab.reconcile.memory import Key
from trimtab.reconcile.quality import Comparisons, Gate, Outputs, outputs_of, read_gate
from trimtab.reconcile.quality.measuring import PAUSE, ROUNDS
from trimtab.reconcile.wishes import alters_outputs
from trimtab.rollout import step

KEY = Key("serving", "chat")
VLLM = ENGINES["vllm"]
GOOD = Verdict(Call.GOOD, Reason.WITHIN_SLO, "All objectives are kept.")
TEXTS = {
    f"t{number:02}": f"The text number {number} has some words of its own {number * 7919}." for number in range(12)
}
PROBED: dict[str, Any] = {"quality": {"probes": {"configMap": "trimtab-probes"}}}


@dataclass
class Reader:
    """Holds one ConfigMap, or the refusal to read it."""

    found: Object | Forbidden | None = None
    asked: list[tuple[Kind, str | None, str]] = field(default_factory=list)

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        self.asked.append((kind, namespace, name))
        if isinstance(self.found, Forbidden):
            raise self.found
        return self.found


async def test_without_a_named_probe_set_the_operators_own_is_used_and_nothing_is_read() -> None:
    reader = Reader()
    gate = await read_gate(reader, owned(), VLLM, None)
    assert gate.can_run and len(gate.probes) == 32 and reader.asked == []
    assert gate.reason is Reason.QUALITY_GATE_READY


async def test_a_named_probe_set_is_read_by_its_name_in_the_namespace_of_the_resource() -> None:
    reader = Reader({"data": TEXTS})
    gate = await read_gate(reader, owned(**PROBED), VLLM, None)
    assert reader.asked == [(CONFIG_MAPS, "serving", "trimtab-probes")]
    assert [probe.name for probe in gate.probes] == sorted(TEXTS)
    assert "12 texts of the ConfigMap trimtab-probes" in gate.message


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "no such ConfigMap in the namespace 'serving'"),
        (Forbidden("get ConfigMap: 403", 403), "quality.configMaps of the Helm chart"),
        ({"data": None}, "holds 0 texts"),
        ({"data": TEXTS, "binaryData": {"photo": "/9j/4AAQ"}}, "'photo' is not UTF-8"),
    ],
)
async def test_a_probe_set_that_cannot_be_used_names_the_field_and_the_way_out(found: Any, said: str) -> None:
    gate = await read_gate(Reader(found), owned(**PROBED), VLLM, None)
    assert not gate.can_run and gate.reason is Reason.QUALITY_PROBES_INVALID
    assert gate.message.startswith("spec.quality.probes.configMap is 'trimtab-probes'.")
    assert said in gate.message and "needs an approval" in gate.message


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ({"name": "sglang", "version": "0.5.23"}, "SGLang is not known"),
        ({"args": ["--api-key", "x"]}, "with --api-key"),
        ({"args": ["--ssl-keyfile=/k"]}, "serves TLS only"),
        ({"env": [{"name": "VLLM_API_KEY", "value": "x"}]}, "with VLLM_API_KEY"),
    ],
)
async def test_an_engine_that_answers_no_probes_is_known_before_anything_is_tried(
    engine: dict[str, Any], said: str
) -> None:
    deployment = owned(engine=engine)
    gate = await read_gate(Reader(), deployment, ENGINES[deployment.spec.engine.name], None)
    assert not gate.can_run and gate.reason is Reason.QUALITY_NOT_MEASURABLE
    assert said in gate.message


async def test_the_arguments_of_an_adopted_workload_count_and_those_of_its_neighbours_do_not() -> None:
    closed = await read_gate(Reader(), adopting(), VLLM, target(("/models/m75", "--api-key=x")))
    assert not closed.can_run
    neighbour = target()
    neighbour["spec"]["template"]["spec"]["containers"][0]["args"] = ["--api-key", "x"]
    assert (await read_gate(Reader(), adopting(), VLLM, neighbour)).can_run


def test_an_edit_alters_outputs_by_its_knobs_and_not_where_the_model_may_be_another() -> None:
    state = settled(stable(maxNumSeqs=4))

    def edited(template: str = "t1", **config: Any) -> bool:
        changed = stable(template=template, **config)
        wish = Wish(changed.config, changed.template, Source.USER, "rev-b")
        return alters_outputs(VLLM, "0.32.0", wish, state)

    assert edited(maxNumSeqs=4, kvCacheDtype="fp8") and edited(quantization="fp8")
    assert not edited(maxNumSeqs=8)
    assert not edited(template="t2", kvCacheDtype="fp8")


class Trial:
    """Two stable pods and a canary, as servers on addresses of their own, and the rollout that judges them."""

    def __init__(self, stack: ExitStack, canary: Manner) -> None:
        port = free_port()
        self.servers = [
            stack.enter_context(ScoringServer(manner, host=f"127.0.0.{host}", port=port))
            for host, manner in ((2, Manner()), (3, Manner()), (4, canary))
        ]
        tuning = {"mode": "Apply"}
        self.deployment = owned(engine={"port": port}, model={"name": MODEL_NAME, "source": "/m"}, tuning=tuning)
        self.clock = NOW
        self.gate = Gate(tuple(Probe(name, text) for name, text in TEXTS.items()), Reason.QUALITY_GATE_READY, "Ready.")
        self.prober = Prober(Limits(connect_timeout=1.0, read_timeout=5.0, deadline=5.0))
        self.comparisons = Comparisons(self.prober, lambda: self.clock)
        tried = replace(candidate(kvCacheDtype="fp8"), source=Source.PLAN, plan="plan-1", alters_outputs=True)
        self.state = RolloutState(
            phase=Phase.CANARY_JUDGING,
            since=NOW - 30.0,
            stable=stable(),
            candidate=tried,
            started_at=NOW - 60.0,
            served_at=NOW - 30.0,
        )
        self.trial: Snapshot | None = None

    def revisions(self) -> dict[str, RevisionFacts]:
        addressed = [
            replace(pod, address=server.host)
            for pod, server in zip((*pods("rev-a", 2), *pods("rev-b", 1)), self.servers, strict=True)
        ]
        return {
            "rev-a": RevisionFacts("rev-a", 2, tuple(addressed[:2])),
            "rev-b": RevisionFacts("rev-b", 1, (addressed[2],)),
        }

    def outputs(self) -> Outputs:
        return outputs_of(KEY, self.deployment, self.state, self.revisions(), self.trial, self.gate, self.comparisons)

    def look(self, seconds: float = 15.0) -> Outputs:
        """One cycle: the state is persisted in the status and read again, as a restart would find it."""
        self.clock += seconds
        outputs = self.outputs()
        facts = RolloutFacts(
            policy=policy_of(self.deployment.spec),
            revisions=self.revisions(),
            user=Wish(stable().config, "t1", Source.USER, "rev-a"),
            user_config=stable().config,
            verdict=GOOD,
            quality=outputs.verdict,
            quality_needed=outputs.needed,
        )
        state, _ = step(self.state, facts, self.clock)
        held = rollout_state_from(rollout_state_to(state))
        assert isinstance(held, RolloutState)
        self.state = held
        return outputs

    async def look_until_compared(self) -> None:
        self.look()
        await self.settle()
        self.look()

    async def settle(self) -> None:
        """Waits for the comparison that is under way."""
        under_way = [task for task in asyncio.all_tasks() if task.get_name().startswith("quality-")]
        await asyncio.gather(*under_way)

    def phase(self) -> Phase:
        return self.state.phase

    def asked(self) -> list[int]:
        return [len(server.asked) for server in self.servers]


@pytest.fixture
async def stack() -> AsyncIterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


async def test_a_canary_with_the_same_outputs_is_promoted_after_one_comparison(stack: ExitStack) -> None:
    trial = Trial(stack, Manner())
    trial.look()
    assert trial.phase() is Phase.CANARY_JUDGING and "being compared" in trial.state.holding
    await trial.settle()
    trial.look()
    assert trial.phase() is Phase.PROMOTING
    assert trial.state.quality is not None and trial.state.quality.reason is Reason.WITHIN_QUALITY_BUDGET
    assert trial.asked() == [12, 12, 12]
    await trial.prober.close()


async def test_a_canary_with_worse_outputs_is_rolled_back_with_the_numbers(stack: ExitStack) -> None:
    trial = Trial(stack, Manner(worse=0.3))
    await trial.look_until_compared()
    assert trial.phase() is Phase.ROLLING_BACK
    assert trial.state.decision is not None
    assert trial.state.decision.reason is Reason.QUALITY_REGRESSION
    assert "perplexity +35 %" in trial.state.decision.message
    await trial.prober.close()


async def test_a_canary_that_says_other_tokens_is_rolled_back(stack: ExitStack) -> None:
    trial = Trial(stack, Manner(other=4))
    await trial.look_until_compared()
    assert trial.state.decision is not None
    assert "other most probable tokens" in trial.state.decision.message
    await trial.prober.close()


async def test_what_is_known_is_not_asked_again_by_an_operator_that_was_restarted(stack: ExitStack) -> None:
    trial = Trial(stack, Manner())
    await trial.look_until_compared()
    trial.state = replace(trial.state, phase=Phase.CANARY_JUDGING)
    trial.comparisons = Comparisons(trial.prober, lambda: trial.clock)
    assert trial.look() == Outputs(needed=True)
    assert trial.phase() is Phase.PROMOTING
    assert trial.asked() == [12, 12, 12]
    await trial.prober.close()


async def test_a_canary_that_cannot_be_asked_holds_and_is_asked_again_some_times_only(stack: ExitStack) -> None:
    trial = Trial(stack, Manner(status=lambda _: 503))
    await trial.look_until_compared()
    assert trial.phase() is Phase.CANARY_JUDGING and "HTTP status 503" in trial.state.holding
    trial.look(PAUSE / 2)
    assert trial.asked()[2] == 1
    for _ in range(2 * ROUNDS):
        trial.look(PAUSE)
        await trial.settle()
    assert trial.asked()[2] == ROUNDS
    assert trial.phase() is Phase.CANARY_JUDGING
    trial.look(900.0)
    assert trial.state.decision is not None
    assert trial.state.decision.reason is Reason.DEADLINE_EXCEEDED and "503" in trial.state.decision.message
    await trial.prober.close()


async def test_a_pod_that_recovers_is_compared_in_a_later_round(stack: ExitStack) -> None:
    trial = Trial(stack, Manner(status=lambda _: 503))
    await trial.look_until_compared()
    trial.servers[2].manner.status = lambda _: 200
    trial.look(PAUSE)
    await trial.settle()
    trial.look()
    assert trial.phase() is Phase.PROMOTING
    await trial.prober.close()


async def test_one_stable_pod_is_asked_twice(stack: ExitStack) -> None:
    trial = Trial(stack, Manner())
    trial.servers[1].host = ""
    await trial.look_until_compared()
    assert trial.phase() is Phase.PROMOTING
    assert trial.asked() == [24, 0, 12]
    await trial.prober.close()


async def test_no_probe_is_sent_to_a_canary_that_is_overloaded_or_not_ready_or_while_paused(stack: ExitStack) -> None:
    trial = Trial(stack, Manner())
    crowded = PodMetrics(waiting=Known(50.0), running=Known(4.0))
    view = RevisionView("rev-b", (ObservedPod(PodFacts("rev-b-0", "rev-b", ready=True), crowded),))
    trial.trial = Snapshot("serving", "chat", NOW, 60.0, "vllm", "0.32.0", (view,))
    assert "50 requests waiting" in str(trial.outputs().verdict)
    trial.trial = None
    trial.servers[2].host = ""
    assert "no ready pod" in str(trial.outputs().verdict)
    trial.servers[2].host = "127.0.0.4"
    trial.deployment = trial.deployment.model_copy(update={"metadata": _paused(trial.deployment)})
    assert trial.outputs() == Outputs(needed=True)
    await trial.settle()
    assert trial.asked() == [0, 0, 0]
    await trial.prober.close()


def _paused(deployment: LLMDeployment) -> Metadata:
    return deployment.metadata.model_copy(update={"annotations": {PAUSED: "true"}})


async def test_where_outputs_cannot_be_compared_a_persons_word_stands_for_it_and_a_plan_alone_holds(
    stack: ExitStack,
) -> None:
    trial = Trial(stack, Manner())
    trial.gate = Gate((), Reason.QUALITY_NOT_MEASURABLE, "The engine asks for a key.")
    held = trial.outputs()
    assert held.needed and held.verdict is not None and held.verdict.reason is Reason.QUALITY_NOT_MEASURABLE
    assert trial.state.candidate is not None
    tried = trial.state.candidate
    trial.state = replace(trial.state, candidate=replace(tried, source=Source.USER, plan=""))
    assert trial.outputs() == Outputs()
    trial.state = replace(trial.state, candidate=tried)
    approved = {"mode": "Apply", "approvedPlan": "plan-1"}
    trial.deployment = owned(tuning=approved)
    assert trial.outputs() == Outputs()
    assert trial.asked() == [0, 0, 0]
    await trial.prober.close()


async def test_another_phase_and_a_candidate_that_alters_nothing_are_left_alone(stack: ExitStack) -> None:
    trial = Trial(stack, Manner())
    trial.look()
    assert trial.state.candidate is not None
    promoting = replace(trial.state, phase=Phase.PROMOTING)
    latency_only = replace(trial.state, candidate=replace(trial.state.candidate, alters_outputs=False))
    for state in (promoting, latency_only):
        trial.state = state
        assert trial.outputs() == Outputs()
    await trial.prober.close()

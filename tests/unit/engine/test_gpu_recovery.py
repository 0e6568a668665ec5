"""What follows when a GPU fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.engine.gpus import GIBIBYTE, LAYOUTS, SHAPES, gpu, machines, uuid
from trimtab_engine.gpus.health import Gpu, Verdict
from trimtab_engine.gpus.layout import Layout
from trimtab_engine.gpus.recovery import WEIGHTS_SHARE, Action, Cause, Placement, Situation, decide, place
from trimtab_engine.gpus.shape import Heads, Shape

HEADS = st.sampled_from(Heads)
KNOWN = st.none() | SHAPES


def possible(asked: Layout, gpus: Sequence[Gpu], shape: Shape | None, heads: Heads) -> list[Layout]:
    """By brute force: all layouts within what was asked for that the GPUs and the model allow."""
    usable = [one for one in gpus if one.usable]
    found = []
    for tensor, pipeline, data in product(
        range(1, asked.tensor + 1), range(1, asked.pipeline + 1), range(1, asked.data + 1)
    ):
        layout = Layout(tensor=tensor, pipeline=pipeline, data=data)
        divides = asked.tensor % tensor == 0 if shape is None else not shape.problem(tensor, heads)
        layers = shape is None or pipeline <= shape.layers
        weights = shape.weight_bytes if shape else None
        room = all(
            weights is None or weights / layout.parts <= WEIGHTS_SHARE * (one.reading.memory_total_bytes or 0)
            for one in usable
        )
        if layout.gpus <= len(usable) and divides and layers and room:
            found.append(layout)
    return found


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    gpus, asked = draw(machines()), draw(LAYOUTS)
    used = draw(st.lists(st.sampled_from([one.reading.uuid for one in gpus]), unique=True)) if gpus else []
    return Situation(
        asked=asked,
        now=Placement(gpus=tuple(used), layout=asked),
        gpus=gpus,
        heads=draw(HEADS),
        shape=draw(KNOWN),
        ended=draw(st.booleans()),
        contained=draw(st.booleans()),
        others=draw(st.booleans()),
        movable=draw(st.booleans()),
        recover=draw(st.sampled_from([True, True, False])),
        restarts=draw(st.integers(0, 4)),
        most_restarts=draw(st.integers(0, 4)),
    )


@settings(max_examples=150)
@given(gpus=machines(), asked=LAYOUTS, shape=KNOWN, heads=HEADS)
def test_the_largest_layout_that_is_possible_is_taken_on_gpus_that_can_be_used(
    gpus: tuple[Gpu, ...], asked: Layout, shape: Shape | None, heads: Heads
) -> None:
    found, all_of_them = place(asked, gpus, shape=shape, heads=heads), possible(asked, gpus, shape, heads)
    if found is None:
        assert all_of_them == []
        return
    assert found.layout in all_of_them
    assert found.layout.gpus == max(layout.gpus for layout in all_of_them)
    by_name = {one.reading.uuid: one for one in gpus}
    assert len(set(found.gpus)) == len(found.gpus) == found.layout.gpus
    assert all(by_name[name].usable for name in found.gpus)
    order = [one.reading.uuid for one in gpus if one.reading.uuid in found.gpus]
    assert list(found.gpus) == order
    # One that is degraded is taken only where those that are well do not suffice.
    well = [one for one in gpus if one.assessment.verdict is Verdict.OK]
    degraded = [name for name in found.gpus if by_name[name].assessment.verdict is Verdict.DEGRADED]
    assert not degraded or len(well) < found.layout.gpus


@settings(max_examples=150)
@given(situations())
def test_an_engine_is_touched_only_when_a_gpu_that_it_uses_failed_and_there_is_always_a_way(case: Situation) -> None:
    decision = decide(case)
    failed = [one for one in case.gpus if not one.usable and one.reading.uuid in case.now.gpus]
    if not failed:
        again = case.ended and case.contained and case.recover and case.restarts < case.most_restarts
        assert decision.action is (Action.RESTART if again else Action.GO_ON)
        assert decision.placement == (case.now if again else None)
        return
    assert all(one.sentence() in decision.message for one in failed)
    if not case.recover:
        assert decision.action is Action.GO_ON
    elif not any(one.usable for one in case.gpus):
        assert (decision.action, decision.cause) == (Action.END, Cause.NONE_LEFT)
    elif decision.action is Action.FEWER:
        assert decision.placement is not None
        assert case.movable and case.restarts < case.most_restarts
        assert not {one.reading.uuid for one in failed}.intersection(decision.placement.gpus)
        assert all(
            now <= asked
            for now, asked in zip(
                decision.placement.layout.as_json().values(), case.asked.as_json().values(), strict=True
            )
        )
    else:
        assert decision.action is (Action.NEXT if case.others else Action.END)
        assert decision.cause in (Cause.TOO_OFTEN, Cause.SPREAD, Cause.NO_LAYOUT)
        impossible = not possible(case.asked, case.gpus, case.shape, case.heads)
        assert impossible or not case.movable or case.restarts >= case.most_restarts
    assert (decision.placement is not None) == (decision.action in (Action.FEWER, Action.RESTART))


@settings(max_examples=150)
@given(
    count=st.integers(1, 12),
    asked=LAYOUTS,
    shape=KNOWN,
    order=st.randoms(use_true_random=False),
    most=st.integers(0, 12),
)
def test_gpus_that_fail_one_after_the_other_make_it_smaller_until_it_ends(
    count: int, asked: Layout, shape: Shape | None, order: object, most: int
) -> None:
    gpus = [gpu(index) for index in range(count)]
    now = place(asked, gpus, shape=shape, heads=Heads.SHARED)
    case = Situation(asked=asked, now=now or Placement(), gpus=gpus, shape=shape, most_restarts=most)
    sizes = [case.now.layout.gpus]
    failing = list(range(count))
    order.shuffle(failing)  # type: ignore[attr-defined]
    ended = False
    for index in failing:
        gpus[index] = gpu(index, Verdict.FAILED)
        case = replace(case, gpus=tuple(gpus))
        decision = decide(case)
        if decision.action is Action.END:
            ended = True
            break
        if decision.placement is not None:
            case = replace(case, now=decision.placement, restarts=case.restarts + 1)
            sizes.append(decision.placement.layout.gpus)
    assert sizes == sorted(sizes, reverse=True)
    assert case.restarts <= most
    assert ended or now is None


EIGHT = Layout(tensor=8)
LLAMA = Shape(heads=64, kv_heads=8, layers=80, weight_bytes=141 * GIBIBYTE)


def after_losing(
    index: int, asked: Layout, count: int, shape: Shape | None = LLAMA, memory: int = 80
) -> Placement | None:
    gpus = [gpu(at, Verdict.FAILED if at == index else Verdict.OK, memory=memory * GIBIBYTE) for at in range(count)]
    return place(asked, gpus, shape=shape, heads=Heads.SHARED)


def test_of_eight_gpus_four_are_left_to_tensor_parallelism_when_one_is_lost() -> None:
    found = after_losing(5, EIGHT, 8)
    assert found == Placement(gpus=tuple(uuid(at) for at in range(4)), layout=Layout(tensor=4))


def test_a_copy_is_given_up_before_the_others_are_cut_otherwise() -> None:
    found = after_losing(0, Layout(tensor=2, data=4), 8, memory=141)
    assert found is not None
    assert found.layout == Layout(tensor=2, data=3)


def test_a_spare_gpu_takes_the_place_of_a_lost_one() -> None:
    found = after_losing(1, Layout(tensor=4), 5)
    assert found is not None
    assert (found.layout, uuid(4) in found.gpus) == (Layout(tensor=4), True)


def test_weights_that_do_not_fit_on_fewer_gpus_keep_it_from_being_tried() -> None:
    assert after_losing(0, Layout(tensor=2), 2, memory=80) is None
    assert after_losing(0, Layout(tensor=2), 2, memory=192) is not None
    gpus = (gpu(0, Verdict.FAILED), gpu(1))
    case = Situation(
        asked=Layout(tensor=2), now=Placement(gpus=(uuid(0), uuid(1)), layout=Layout(tensor=2)), gpus=gpus, shape=LLAMA
    )
    assert (decide(case).action, decide(case).cause) == (Action.END, Cause.NO_LAYOUT)
    assert decide(replace(case, others=True)).action is Action.NEXT


def test_without_the_models_shape_sizes_that_divide_what_was_asked_for_are_tried() -> None:
    found = after_losing(0, Layout(tensor=6), 6, shape=None)
    assert found is not None
    assert found.layout == Layout(tensor=3)

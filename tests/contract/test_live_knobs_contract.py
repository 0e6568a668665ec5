"""The live knobs of the catalogue are the limits of the engine image: the two share no code, only this test."""

from __future__ import annotations

import json
from dataclasses import fields
from itertools import product
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.unit.api.builders import llmdeployment
from trimtab.api import names
from trimtab.catalogue import CatalogueError, find_engine
from trimtab.model.config import EngineConfig, KnobValue
from trimtab.observe.engines import ENGINES
from trimtab.observe.engines.spec import GaugeRole
from trimtab.render.engines import LIVE_FILE, LIVE_FOLDER, start_of
from trimtab.render.live import live_annotations
from trimtab_engine.config.load import load
from trimtab_engine.limits.limits import Capacity, Limits
from trimtab_engine.limits.parse import Refused, read_text
from trimtab_engine.limits.settings import LARGEST_ID, Settings, read_settings
from trimtab_engine.serve import main
from trimtab_engine.server.health import Reason
from trimtab_engine.server.metrics import Metrics

pytestmark = pytest.mark.emulator

VERSION = "0.1.0"
CAPACITY = Capacity(running_requests=65_536, tokens_per_step=1 << 24, longest_context=1 << 24)
BASE = Settings(limits=Limits(max_running_requests=8, max_tokens_per_step=2048))
_found = find_engine("trimtab")
assert _found is not None
TRIMTAB = _found


def taken(revision: str, config: EngineConfig) -> Settings | Refused:
    """What the engine makes of the settings that the operator writes for a pod."""
    text = live_annotations(TRIMTAB, VERSION, revision, config)[names.LIVE_ANNOTATION]
    return read_settings(read_text(text), base=BASE, capacity=CAPACITY)


def test_the_live_knobs_are_exactly_the_limits_that_the_engine_accepts() -> None:
    knobs = TRIMTAB.knobs(VERSION)
    flags = {name: knobs[name].flag((0, 1, 0)) for name in TRIMTAB.live_knobs(VERSION)}
    assert {flag.name for flag in flags.values() if flag} == {field.name for field in fields(Limits)}
    assert len(flags) == len(fields(Limits))
    assert all(flag is not None and flag.live for flag in flags.values())
    others = [knob.flag((0, 1, 0)) for name, knob in knobs.items() if name not in flags]
    assert not any(flag is not None and flag.live for flag in others)


@pytest.mark.parametrize(("knob", "end"), list(product(sorted(TRIMTAB.live_knobs(VERSION)), ("minimum", "maximum"))))
def test_the_ends_of_each_live_knobs_range_are_those_of_the_limit(knob: str, end: str) -> None:
    entry = TRIMTAB.knobs(VERSION)[knob]
    flag, value = entry.flag((0, 1, 0)), getattr(entry, end)
    assert flag is not None and value is not None
    # So many running sequences need as large a step.
    others: dict[str, KnobValue] = {"maxNumScheduledTokens": 1 << 24} if knob == "maxNumActiveSeqs" else {}
    others |= {"maxNumActiveSeqs": 1} if knob == "maxNumScheduledTokens" else {}
    settings = taken("r", EngineConfig({**others, knob: value}))
    assert isinstance(settings, Settings)
    assert getattr(settings.limits, flag.name) == TRIMTAB.live_limits(VERSION, EngineConfig({knob: value}))[flag.name]
    beyond = value + (1 if end == "maximum" else -1)
    with pytest.raises(CatalogueError):
        TRIMTAB.flags(VERSION, EngineConfig({knob: beyond}))
    limits = TRIMTAB.live_limits(VERSION, EngineConfig({**others, knob: beyond}))
    assert isinstance(read_settings({"limits": limits}, base=BASE, capacity=CAPACITY), Refused)


def test_what_the_catalogue_refuses_of_a_combination_the_engine_refuses_too() -> None:
    config = EngineConfig({"maxNumActiveSeqs": 64, "maxNumScheduledTokens": 63})
    assert [problem.certain for problem in TRIMTAB.problems(VERSION, config)] == [True]
    assert isinstance(taken("r", config), Refused)


def test_the_engine_shows_the_id_by_which_the_operator_knows_a_revision() -> None:
    settings = taken("1a2b3c4d5e", EngineConfig({"maxNumActiveSeqs": 4, "maxWaitMilliseconds": 2500}))
    assert isinstance(settings, Settings)
    assert (settings.limits.max_running_requests, settings.limits.max_wait_seconds) == (4, 2.5)
    assert 0 < settings.id == names.settings_id("1a2b3c4d5e") <= LARGEST_ID
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.settings_id(settings.id)
    shown = {
        line.split()[0]: float(line.split()[1])
        for line in generate_latest(registry).decode().splitlines()
        if line[0] != "#"
    }
    roles = ENGINES["trimtab"].gauges
    assert shown[roles[GaugeRole.SETTINGS_ID].names[0].metric] == settings.id
    refused = roles[GaugeRole.SETTINGS_REFUSED]
    assert [(matcher.label, matcher.value) for matcher in refused.matchers] == [("reason", Reason.SETTINGS_REFUSED)]
    assert f'{refused.names[0].metric}{{reason="settings_refused"}}' in shown


def test_the_engine_understands_how_the_operator_starts_it(capsys: pytest.CaptureFixture[str]) -> None:
    spec = llmdeployment(engine={"name": "trimtab", "version": VERSION, "image": "i"}).spec
    start = start_of("trimtab")
    assert start.command == ("trimtab-engine", "serve")
    arguments, variables = list(start.base(spec)), dict(start.environment(spec))
    at = arguments.index("--settings-file")
    assert Path(arguments[at + 1]) == Path(LIVE_FOLDER) / LIVE_FILE and arguments[-1] == "--"
    config = load(None, variables, {"model": spec.model.source})
    assert (config.served_model_name, config.server.drain_seconds) == (spec.model.name, spec.rollout.drain_seconds)
    assert main([*arguments[:-1], "--describe"]) == 0, "an argument that the program does not know ends with 2"
    assert "settings_file" in capsys.readouterr().out


def test_an_upgrade_of_the_image_that_drops_a_limit_is_seen_here() -> None:
    text = live_annotations(TRIMTAB, VERSION, "r", EngineConfig({"maxNumActiveSeqs": 4}))[names.LIVE_ANNOTATION]
    document = json.loads(text)
    document["limits"]["max_runing_requests"] = document["limits"].pop("max_running_requests")
    assert isinstance(read_settings(document, base=BASE, capacity=CAPACITY), Refused)

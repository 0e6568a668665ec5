"""The emulator behind `trimtab-engine serve` takes settings as the image on real vLLM does (`tests/vllm`)."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator

import pytest

from tests.contract.image import Image, until

pytestmark = pytest.mark.emulator

RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    image = Image(tmp_path_factory.mktemp("image"))
    with image.serving("--max-num-seqs", "8"):
        yield image


def test_settings_come_into_force_while_requests_run_and_none_is_lost(image: Image) -> None:
    assert image.gauge("trimtab_engine_settings_id") == 0
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(image.complete, 400) for _ in range(8)]
        until(lambda: image.gauge(RUNNING) == 8, "eight run")
        image.write(id=41, limits={"max_running_requests": 2})
        until(lambda: image.gauge("trimtab_engine_settings_id") == 41, "the settings are in force")
        more = [pool.submit(image.complete, 40) for _ in range(8)]
        assert [task.result() for task in (*asked, *more)] == [200] * 16
    assert image.gauge("trimtab_engine_limits_revision_in_force") == image.gauge("trimtab_engine_limits_revision")


def test_fewer_run_at_once_once_the_limit_is_lower(image: Image) -> None:
    image.write(id=42, limits={"max_running_requests": 1})
    until(lambda: image.gauge("trimtab_engine_settings_id") == 42, "the settings are in force")
    with image.asked_for_long_answers(3):
        until(lambda: image.gauges(RUNNING, WAITING) == (1, 2), "one runs and two wait")
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(image.complete, 10) for _ in range(3)]
        assert [task.result() for task in asked] == [200] * 3


def test_settings_that_cannot_be_change_nothing_and_are_shown(image: Image) -> None:
    image.write(id=43, limits={"max_running_requests": 4})
    until(lambda: image.gauge("trimtab_engine_settings_id") == 43, "the settings are in force")
    image.write(id=44, limits={"max_running_requests": 9})
    until(lambda: image.gauge('trimtab_engine_degraded{reason="settings_refused"}') == 1, "they are refused")
    assert image.gauge("trimtab_engine_settings_id") == 43
    assert "limits.max_running_requests: must be 1 to 8" in image.document("/health")["reasons"]["settings_refused"]
    assert image.document("/v1/optimization/status")["limits"]["max_running_requests"] == 4


def test_who_finds_the_queue_full_is_refused_at_once(image: Image) -> None:
    image.write(id=45, limits={"max_running_requests": 1, "max_queued_requests": 0})
    until(lambda: image.gauge("trimtab_engine_settings_id") == 45, "the settings are in force")
    until(lambda: image.gauge(RUNNING) == 0, "the clients that have gone leave their places")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(image.complete, 700)
        until(lambda: image.gauge(RUNNING) == 1, "one runs")
        assert image.complete(1) == 429
        assert asked.result() == 200

"""What the scheduler takes up between two steps, with a scheduler in the place of vLLM's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.engine.asgi import vllm_config
from trimtab_engine.engines.vllm.live import IncompatibleVllmError, LiveLimits, capacity_of, limits_of
from trimtab_engine.limits.limits import Capacity, Limits
from trimtab_engine.shared.board import Board, Boards, Notice
from trimtab_engine.shared.folder import VARIABLE, NoRunFolderError, run_folder
from trimtab_engine.shared.wanted import Wanted, WantedFile


class Plain:
    """The attributes that vLLM's scheduler has; a step tells what was in force in it."""

    def __init__(self, *, vllm_config: Any) -> None:
        self.vllm_config = vllm_config
        self.scheduler_config = vllm_config.scheduler_config
        self.parallel_config = SimpleNamespace(data_parallel_index=1)
        self.max_num_active_reqs = 32
        self.max_num_scheduled_tokens = 2048
        blocks = SimpleNamespace(num_blocks=500)
        self.kv_cache_manager = SimpleNamespace(watermark_blocks=0, kv_cache_config=blocks, usage=0.25)
        self.counts = (3, 2)

    def get_request_counts(self) -> tuple[int, int]:
        return self.counts

    def schedule(self, throttle_prefills: bool = False) -> tuple[int, int, int, int]:
        threshold = self.scheduler_config.long_prefill_token_threshold
        blocks = self.kv_cache_manager.watermark_blocks
        return self.max_num_active_reqs, self.max_num_scheduled_tokens, threshold, blocks

    def update_from_output(self, output: object) -> object:
        return output

    def finish_requests(self, names: object, status: object) -> list[object]:
        self.counts = (0, 0)
        return []


class Live(LiveLimits, Plain):
    """As `engines.vllm.scheduler` does with vLLM's own."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


def want(folder: Path, revision: int, **limits: Any) -> None:
    values = {"max_running_requests": 32, "max_tokens_per_step": 2048, **limits}
    wanted = Wanted(limits=Limits(**values), revision=revision, source="file", since="")
    WantedFile(folder).change(lambda _: wanted)


def notice(folder: Path) -> Notice:
    boards = Boards(folder)
    boards.find()
    return boards.read()


def test_a_change_is_in_force_in_the_next_step_and_is_told(folder: Path) -> None:
    live = Live(vllm_config=vllm_config())
    assert live.schedule() == (32, 2048, 0, 0)
    want(folder, 1, max_running_requests=1, kv_headroom_percent=10)
    assert live.schedule(True) == (1, 2048, 0, 50)
    assert (notice(folder).revision, notice(folder).steps, notice(folder).running) == (1, 2, 3)
    want(folder, 2, max_running_requests=16, max_tokens_per_step=256, long_prompt_tokens_per_step=64)
    assert live.schedule() == (16, 256, 64, 0)
    assert (notice(folder).revision, notice(folder).waiting, notice(folder).kv_usage) == (2, 2, 0.25)


def test_more_than_this_engine_has_is_never_set(folder: Path) -> None:
    live = Live(vllm_config=vllm_config(max_num_seqs=8, max_num_batched_tokens=512))
    want(folder, 1, max_running_requests=64, max_tokens_per_step=100_000)
    assert live.schedule() == (8, 512, 0, 0)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"limits": {"x": 1}}', '{"revision": 3}'])
def test_a_file_that_cannot_be_read_stops_no_step(folder: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    want(folder, 1, max_running_requests=4)
    live = Live(vllm_config=vllm_config())
    live.schedule()
    (folder / "wanted.json").write_text(text)
    assert [live.schedule()[0] for _ in range(3)] == [4, 4, 4]
    assert caplog.text.count("cannot be read") == 1
    want_again(folder)
    assert live.schedule()[0] == 2


def want_again(folder: Path) -> None:
    (folder / "wanted.json").unlink()
    want(folder, 5, max_running_requests=2)


def test_the_board_is_right_when_requests_end_without_a_step(folder: Path) -> None:
    live = Live(vllm_config=vllm_config())
    live.schedule()
    assert notice(folder).running == 3
    live.finish_requests([], None)
    assert notice(folder).running == 0


def test_an_older_vllm_is_refused_at_its_start(folder: Path) -> None:
    class Old(Plain):
        def __init__(self, *, vllm_config: Any) -> None:
            super().__init__(vllm_config=vllm_config)
            del self.max_num_active_reqs

    class LiveOld(LiveLimits, Old):
        pass

    with pytest.raises(IncompatibleVllmError, match="has no max_num_active_reqs"):
        LiveOld(vllm_config=vllm_config())


def test_the_capacity_is_what_vllm_was_started_with() -> None:
    assert capacity_of(vllm_config()) == Capacity(running_requests=32, tokens_per_step=2048, longest_context=4096)
    uncut = capacity_of(vllm_config(enable_chunked_prefill=False, max_num_batched_tokens=8192))
    assert uncut.smallest_step == 4096
    guessing = vllm_config()
    guessing.num_speculative_tokens = 4
    guessing.scheduler_config.max_num_scheduled_tokens = 1920
    assert (capacity_of(guessing).tokens_per_request, capacity_of(guessing).tokens_per_step) == (5, 1920)
    whole_blocks = vllm_config()
    whole_blocks.cache_config.mamba_cache_mode = "align"
    assert capacity_of(whole_blocks).smallest_step == 16


def test_flags_of_vllm_are_the_limits_of_the_start() -> None:
    flags = {"max_num_active_seqs": 8, "max_num_scheduled_tokens": 256, "watermark": 0.05}
    config = vllm_config(**flags, long_prefill_token_threshold=128)
    limits = limits_of(config)
    assert (limits.max_running_requests, limits.max_tokens_per_step) == (8, 256)
    assert (limits.kv_headroom_percent, limits.long_prompt_tokens_per_step) == (5, 128)
    assert capacity_of(config).running_requests == 32


def test_the_boards_of_several_engines_are_read_as_one(tmp_path: Path) -> None:
    Board(tmp_path, 0).post(Notice(revision=2, steps=5, running=1, waiting=0, kv_usage=0.9, at=7.0))
    Board(tmp_path, 1).post(Notice(revision=3, steps=6, running=4, waiting=2, kv_usage=0.1, at=8.0))
    assert notice(tmp_path) == Notice(revision=2, steps=11, running=5, waiting=2, kv_usage=0.9, at=8.0)
    assert Boards(tmp_path).read() == Notice()


def test_a_process_outside_of_a_server_is_told_how_to_start_one() -> None:
    with pytest.raises(NoRunFolderError, match="trimtab-engine serve"):
        run_folder({})

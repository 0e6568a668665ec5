"""Which kernel of attention computes, why the others do not, and where that is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.engine.asgi import ask
from tests.unit.engine.test_engine_gate import House
from trimtab_engine.engines.facts import Attention
from trimtab_engine.engines.pytorch.attention import FLASH, LAST, candidates, choose
from trimtab_engine.engines.vllm import worker
from trimtab_engine.engines.vllm.ask import attention_of
from trimtab_engine.engines.vllm.command import WORKER

WANTED = ("auto", "flash", "sdpa", "eager")


@settings(max_examples=150)
@given(
    st.sampled_from(WANTED),
    st.sampled_from(["cpu", "cuda"]),
    st.dictionaries(st.sampled_from([*FLASH, "sdpa", LAST]), st.sampled_from(["not installed", "ValueError: bf16"])),
)
def test_the_first_kernel_that_works_is_taken_and_each_before_it_has_its_reason(
    wanted: str, device: str, faults: dict[str, str]
) -> None:
    names = candidates(wanted, device)
    tried: list[str] = []

    def fault(name: str) -> str:
        tried.append(name)
        return faults.get(name, "")

    if all(name in faults for name in names):
        with pytest.raises(RuntimeError, match="no kernel of attention works"):
            choose(names, device=device, fault=fault)
        return
    found = choose(names, device=device, fault=fault)
    assert found.kernel not in faults
    assert tried == list(names[: len(tried)]) and tried[-1] == found.kernel
    assert found.why == "; ".join(f"{name}: {faults[name]}" for name in tried[:-1])
    assert found.device == device


def test_the_fastest_comes_first_and_there_is_always_a_last_one() -> None:
    assert candidates("auto", "cuda") == (*FLASH, "sdpa", LAST)
    assert candidates("auto", "cpu") == ("sdpa", LAST)
    assert candidates("flash", "cpu")[:2] == FLASH  # asked for: the reason why it is not taken is told
    assert all(candidates(wanted, device)[-1] == LAST for wanted in WANTED for device in ("cpu", "cuda"))


async def test_health_and_metrics_tell_the_kernel(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    house = House(tmp_path)
    with caplog.at_level("INFO"):
        house.gate.take_attention(Attention(kernel="sdpa", device="cpu", why="flash_attention_3: not installed"))
    health = (await ask(house.gate, "GET", "/health")).document
    assert health["attention"] == {"kernel": "sdpa", "device": "cpu", "why": "flash_attention_3: not installed"}
    assert house.metric('trimtab_engine_attention_info{device="cpu",kernel="sdpa"}') == 1
    assert "Attention is computed by sdpa on cpu (flash_attention_3: not installed)." in caplog.text


# vLLM's workers.


def layer(name: str) -> Any:
    return SimpleNamespace(get_attn_backend=lambda: SimpleNamespace(get_name=lambda: name))


class _Worker(worker.Asked):
    vllm_config: Any
    device: Any


class Client:
    """vLLM's client, with one worker that has our methods."""

    def __init__(self, *layers: Any) -> None:
        contexts = SimpleNamespace(static_forward_context={str(at): one for at, one in enumerate(layers)})
        self.worker: Any = _Worker()
        self.worker.vllm_config = SimpleNamespace(compilation_config=contexts)
        self.worker.device = SimpleNamespace(type="cuda")

    async def collective_rpc(self, method: str) -> list[Any]:
        return [getattr(self.worker, method)()]


async def test_the_kernels_of_vllms_layers_are_told_once_each() -> None:
    client = Client(layer("FLASH_ATTN"), layer("MAMBA"), layer("FLASH_ATTN"), SimpleNamespace())
    found = await attention_of(SimpleNamespace(engine_client=client))
    assert found == Attention(kernel="FLASH_ATTN and MAMBA", device="cuda")
    assert f"{worker.__name__}.{worker.Asked.__name__}" == WORKER


async def test_a_vllm_that_does_not_tell_serves_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    assert await attention_of(SimpleNamespace()) is None
    assert "is not known" in caplog.text

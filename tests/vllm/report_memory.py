"""What vLLM itself reports at start about its memory, for many configurations in one process.

    <python with vLLM> tests/vllm/report_memory.py CASES.json OUT.jsonl

CASES.json is a list of arguments of `vllm.LLM`. Each case starts a whole engine (weights loaded, cache allocated) in a
fork of a process that has imported vLLM once, which takes seconds instead of the half minute of `vllm serve`. The
figures are those that the server logs and exports: `kv_cache_size_tokens` and `kv_cache_max_concurrency` of
`vllm:cache_config_info`. Run by `test_memory_model.py` with the environment of `tests.vllm.server`.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

import torch

from vllm import LLM
from vllm.model_executor.model_loader import base_loader


def _count_weights() -> list[int]:
    """A list that the bytes of the parameters are put into, before the CPU backend repacks them for its kernels."""
    counted: list[int] = []
    original = base_loader.process_weights_after_loading

    def process(model: torch.nn.Module, *rest: object) -> object:
        counted.append(sum(parameter.numel() * parameter.element_size() for parameter in model.parameters()))
        return original(model, *rest)

    base_loader.process_weights_after_loading = process
    return counted


def _report(arguments: dict[str, object], out: Path) -> None:
    weights = _count_weights()
    cache = LLM(**arguments).llm_engine.vllm_config.cache_config
    figures = {
        "tokens": cache.kv_cache_size_tokens,
        "concurrency": cache.kv_cache_max_concurrency,
        "weights": sum(weights),
    }
    with out.open("a") as lines:
        lines.write(json.dumps(figures) + "\n")


def _in_fork(arguments: dict[str, object], out: Path) -> int:
    """The exit code of a child that reports one case; it leaves without vLLM's own clean-up."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        _report(arguments, out)
    except BaseException:  # noqa: BLE001 - the child must end here, whatever happened
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main(cases: Path, out: Path) -> int:
    """Stops at the first case that does not start."""
    out.write_text("")
    for arguments in json.loads(cases.read_text()):
        sys.stdout.flush()
        code = _in_fork(arguments, out)
        if code:
            print(f"vLLM did not start with {arguments}", file=sys.stderr)
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))

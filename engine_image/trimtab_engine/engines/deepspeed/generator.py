"""The model cut by DeepSpeed (0.19, `init_inference` with AutoTP), generating as PyTorch's engine does.

One process per part. The first serves; transformers' continuous batching sends the others what it takes up, and all of
them make the same steps (`generation/continuous_batching/distributed.py`). When one ends, the generation ends in all.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from trimtab_engine.config.engines import DeepspeedConfig
from trimtab_engine.config.model import Config
from trimtab_engine.engines.pytorch.generator import Generator as PytorchGenerator
from trimtab_engine.engines.pytorch.generator import load
from trimtab_engine.shared.folder import START, read_json, run_folder, say_why

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


NO_GUESSES = "DeepSpeed's processes make the same steps, and guesses would need steps of their own"


def open_generator(model: str, config: DeepspeedConfig, *, reuse: bool) -> PytorchGenerator:
    """The first of the processes; the others are started here, and end with it.

    Raises ValueError where the model's heads cannot be shared out evenly.
    """
    parts = config.tensor_parallel or 1
    shape = AutoConfig.from_pretrained(model).get_text_config()
    heads = int(getattr(shape, "num_key_value_heads", None) or shape.num_attention_heads)
    if heads % parts:
        raise ValueError(f"the model's {heads} key and value heads cannot be shared out over {parts} processes")
    meeting = _environment(parts, port=_free_port())
    command = [sys.executable, "-m", "trimtab_engine.engines.deepspeed.generator"]
    others = []
    for rank in range(1, parts):
        own = {**os.environ, **meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        others.append(subprocess.Popen(command, env=own, preexec_fn=_end_with_parent))
    os.environ.update(meeting, RANK="0", LOCAL_RANK="0")
    made: list[PytorchGenerator] = []
    threading.Thread(target=_watch, args=(others, made, run_folder()), daemon=True).start()
    made.append(PytorchGenerator(model, config, loaded=cut(model, config), reuse=reuse, unable=NO_GUESSES))
    return made[0]


def _watch(others: Sequence[subprocess.Popen[bytes]], made: Sequence[PytorchGenerator], folder: Path) -> None:
    """Ends this process when another one ends before all generate: the others would wait for it in vain. Afterwards
    the generation ends by itself.
    """
    while not (made and made[0].alive()):
        ended = [process for process in others if process.poll() is not None]
        if ended:
            say_why(folder, f"a process of {1 + len(others)} ended with status {ended[0].returncode} before it served")
            os._exit(1)
        time.sleep(0.2)


def cut(model: str, config: DeepspeedConfig) -> Any:
    """This process's part of the model."""
    parts, device = config.tensor_parallel or 1, _device()
    # Read by DeepSpeed when it is imported.
    os.environ.setdefault("DS_ACCELERATOR", device)
    import deepspeed
    from torch.distributed.device_mesh import init_device_mesh

    if device == "cpu":
        # Its all-reduce over shared memory is compiled at start, and ends with a segmentation fault on ours (0.19.8);
        # without it, gloo does the same.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    else:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    deepspeed.init_distributed(dist_backend="gloo" if device == "cpu" else "nccl")
    whole = load(model, config)
    engine = deepspeed.init_inference(
        whole, tensor_parallel={"tp_size": parts}, dtype=whole.dtype, replace_with_kernel_inject=False
    )
    # Where transformers looks for the processes that share the model.
    engine.module._device_mesh = init_device_mesh(device, (parts,), mesh_dim_names=("tp",))
    return engine.module


def follow() -> int:
    """What the other processes do: the same steps as the first, until it ends."""
    config = Config.model_validate(read_json(run_folder() / START))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the first one tells when it is time
    deepspeed = config.engines.deepspeed
    generator = PytorchGenerator(
        config.model, deepspeed, loaded=cut(config.model, deepspeed), reuse=config.kv_reuse.enabled
    )
    generator.start()
    while generator.alive():
        time.sleep(0.2)
    return 0


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _environment(parts: int, *, port: int) -> Mapping[str, str]:
    """How the processes find each other."""
    return {
        "WORLD_SIZE": str(parts),
        "LOCAL_SIZE": str(parts),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_with_parent() -> None:
    """In the child: the kernel kills it when the first process is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(follow())

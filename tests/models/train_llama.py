"""Trains a small Llama on the language of `language.py`, and writes it again with quantized weights.

Its outputs mean something, unlike those of random weights, so the quality gate can be shown on it. It takes about two
minutes of one CPU core and is kept in the cache by the hash of the recipe. The folders are ordinary Hugging Face
folders with the byte-level tokenizer of `make_llama.py`.

    <python with torch> -m tests.models.train_llama DIR                            # trains
    <python with torch> -m tests.models.train_llama DIR --from MODEL --as w8a8
    <python with torch> -m tests.models.train_llama DIR --from MODEL --as draft    # a smaller one that guesses for it
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.models import language, make_llama

SHAPE = make_llama.Shape(hidden=128, intermediate=384, layers=4, heads=2, kv_heads=2, max_positions=1024)
STEPS = 200
BATCH, LENGTH = 8, 160
RATE = 4e-3
CHARACTERS = 2_000_000
SEED = 7
DRAFT_SHAPE = make_llama.Shape(hidden=64, intermediate=192, layers=2, heads=1, kv_heads=1, max_positions=1024)
DRAFT_STEPS = 600

DRAFT = "draft"
VARIANTS = ("w8a8", "w8a8-wrong-scales", "int2", DRAFT)
_W8A8 = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False},
            "input_activations": {
                "num_bits": 8,
                "type": "int",
                "symmetric": True,
                "strategy": "token",
                "dynamic": True,
            },
        }
    },
}

# Raised whenever what this program writes changes, so that caches notice.
FORMAT = 1


def train(folder: Path) -> None:
    """Writes the trained model into `folder`."""

    def loss(model: Any, batch: Any) -> Any:
        return model(input_ids=batch, labels=batch).loss

    _train(folder, SHAPE, STEPS, loss)


def draft(source: Path, folder: Path) -> None:
    """Writes a smaller model into `folder`, which learns from the same text what the one in `source` makes of it: where
    the text does not tell what comes next, a draft must guess as its model does (Zhou et al. 2023, DistillSpec)."""
    import torch
    from transformers import LlamaForCausalLM

    teacher = LlamaForCausalLM.from_pretrained(source, dtype=torch.float32).eval()

    def loss(model: Any, batch: Any) -> Any:
        with torch.no_grad():
            told = teacher(input_ids=batch).logits.log_softmax(-1).flatten(0, 1)
        said = model(input_ids=batch).logits.log_softmax(-1).flatten(0, 1)
        return torch.nn.functional.kl_div(said, told, reduction="batchmean", log_target=True)

    _train(folder, DRAFT_SHAPE, DRAFT_STEPS, loss)


def _train(folder: Path, shape: make_llama.Shape, steps: int, loss_of: Callable[[Any, Any], Any]) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    make_llama.write(shape, folder)
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(LlamaConfig.from_pretrained(folder)).float()
    data = torch.tensor(list(language.text(SEED, CHARACTERS).encode()), dtype=torch.long)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        starts = torch.randint(len(data) - LENGTH, (BATCH,))
        batch = torch.stack([data[start : start + LENGTH] for start in starts.tolist()])
        loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 40 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss.item():.3f}", file=sys.stderr, flush=True)
    _save({name: tensor.detach() for name, tensor in model.state_dict().items()}, folder)


def quantized(source: Path, folder: Path, variant: str) -> None:
    """Writes one of `VARIANTS`, a quantized one, of the model in `source` into `folder`.

    `w8a8` is a checkpoint of compressed-tensors: int8 weights with a scale per output channel, int8 activations scaled
    as they come. In `w8a8-wrong-scales` the scales of every second layer are too large by a third, as after a careless
    calibration. `int2` has weights rounded to -1, 0 and 1 times a scale, written as the numbers that they stand for.
    """
    from safetensors.torch import load_file

    shutil.copytree(source, folder, dirs_exist_ok=True)
    tensors = load_file(source / "model.safetensors")
    for name in [name for name, tensor in tensors.items() if name.startswith("model.layers.") and tensor.dim() == 2]:
        weight = tensors[name].float()
        top = 1 if variant == "int2" else 127
        scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-8) / top
        whole = (weight / scale).round().clamp(-top, top)
        if variant == "int2":
            tensors[name] = whole * scale
            continue
        wrong = variant == "w8a8-wrong-scales" and int(name.split(".")[2]) % 2 == 1
        tensors[name] = whole.char()
        tensors[f"{name}_scale"] = scale * (4 / 3 if wrong else 1.0)
    if variant != "int2":
        config = json.loads((source / "config.json").read_text())
        config["quantization_config"] = _W8A8
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    _save(tensors, folder)


def _save(tensors: dict[str, Any], folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    whole = {
        name: tensor.contiguous() if tensor.dtype == torch.int8 else tensor.to(torch.bfloat16).contiguous()
        for name, tensor in tensors.items()
    }
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})


def cached(python: Path, variant: str = "") -> Path:
    """The folder of the trained model, or of a variant of it; made on the first call by `python`, which has torch."""
    recipe = [FORMAT, make_llama.FORMAT, asdict(SHAPE), STEPS, BATCH, LENGTH, RATE, CHARACTERS, SEED]
    digest = hashlib.sha256(json.dumps(recipe).encode() + Path(language.__file__).read_bytes())
    if variant == DRAFT:
        digest.update(json.dumps([asdict(DRAFT_SHAPE), DRAFT_STEPS]).encode())
    kind = f"trained-{variant}" if variant else "trained"

    def make(made: Path) -> None:
        more = ["--from", str(cached(python)), "--as", variant] if variant else []
        root = Path(__file__).resolve().parents[2]
        command = [str(python), "-m", "tests.models.train_llama", str(made), *more]
        # One thread: on cores that others use as well, threads would wait for each other; and the result is the same.
        subprocess.run(command, check=True, cwd=root, env={**os.environ, "OMP_NUM_THREADS": "1"})

    return make_llama.kept(f"{kind}-{digest.hexdigest()[:12]}", make)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a small Llama, or quantize it.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--from", dest="source", type=Path)
    parser.add_argument("--as", dest="variant", choices=VARIANTS)
    args = parser.parse_args()
    if args.source and args.variant == DRAFT:
        draft(args.source, args.folder)
    elif args.source:
        quantized(args.source, args.folder, args.variant)
    else:
        train(args.folder)


if __name__ == "__main__":
    main()

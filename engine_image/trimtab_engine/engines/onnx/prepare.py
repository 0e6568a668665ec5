"""Converts a model and compares the outcome with PyTorch: `python -m trimtab_engine.engines.onnx.prepare SOURCE TARGET
PRECISION`.

onnxruntime-genai's model builder (0.18) reads the folder and writes the graph, its weights and its tokenizer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from trimtab_engine.engines.common.faithful import CHECK, MOST_TOKENS, TEXT, Comparison, compare
from trimtab_engine.engines.onnx.session import Session


def build(source: Path, target: Path, precision: str) -> None:
    """The conversion."""
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-m", str(source), "-i", str(source)]
    options = ["-o", str(target), "-p", precision, "-e", "cpu", "-c", str(target / ".cache")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr.strip()[-4000:] or f"the model builder ended with status {done.returncode}")


def text_of(source: Path, longest: int) -> list[int]:
    """The tokens that both models are asked about."""
    tokens = [int(token) for token in AutoTokenizer.from_pretrained(source)(TEXT).input_ids]
    return tokens[: min(MOST_TOKENS, longest)]


def by_pytorch(source: Path, tokens: list[int]) -> list[float]:
    """Log-probability of each token after the first, computed in 32 bits."""
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0]
    return _of_tokens(logits.numpy(), tokens)


def by_onnx(session: Session, tokens: list[int]) -> list[float]:
    """The same, the first half at once and the rest token by token, as requests are computed."""
    half = len(tokens) // 2
    parts = [session.extend(0, tokens[:half], 0)]
    parts += [session.step([tokens[at]], [at]) for at in range(half, len(tokens))]
    return _of_tokens(np.concatenate(parts), tokens)


def _of_tokens(logits: np.ndarray, tokens: list[int]) -> list[float]:
    wide = logits[:-1].astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    likely = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return [float(line[token]) for line, token in zip(likely, tokens[1:], strict=True)]


def main(source: Path, target: Path, precision: str) -> int:
    build(source, target, precision)
    session = Session(target, rows=1, context=MOST_TOKENS)
    tokens = text_of(source, session.context)
    comparison: Comparison = compare(by_pytorch(source, tokens), by_onnx(session, tokens))
    (target / CHECK).write_text(json.dumps(comparison.as_json()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))

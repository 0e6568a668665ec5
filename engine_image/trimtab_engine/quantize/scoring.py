"""Log-probabilities of pieces of text by vLLM itself: `python -m trimtab_engine.quantize.scoring MODEL PIECES OUT`.

The engine that will serve the model says what it means, with its own kernels for the format.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from vllm import LLM, SamplingParams

_CACHE_BYTES = 1 << 30  # one piece at a time


def main(model: str, pieces: Path, target: Path) -> int:
    """Writes one list: the log-probability (nats) of every token after the first of its piece."""
    asked = json.loads(pieces.read_text(encoding="utf-8"))
    engine = LLM(
        model=model,
        enforce_eager=True,
        enable_prefix_caching=False,
        max_model_len=max(len(piece) for piece in asked) + 1,
        max_num_seqs=1,
        kv_cache_memory_bytes=_CACHE_BYTES,
        seed=0,
    )
    wanted = SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False)
    answers = engine.generate([{"prompt_token_ids": piece} for piece in asked], wanted, use_tqdm=False)
    found = [
        float(likely[token].logprob)
        for piece, answer in zip(asked, answers, strict=True)
        for token, likely in zip(piece[1:], answer.prompt_logprobs[1:], strict=True)
    ]
    target.write_text(json.dumps(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))

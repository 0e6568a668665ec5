"""Rounds a model's weights: `python -m trimtab_engine.quantize.rounding JOB.json`.

By AutoRound (Cheng and others, "Optimize Weight Rounding via Signed Gradient Descent for the Quantization of LLMs",
arXiv 2309.05516): with a text, each block's rounding is improved by signed gradient descent on the error of the block's
output; without one, weights go to the nearest value.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from auto_round import AutoRound


def main(path: Path) -> int:
    """`path` holds model, target, scheme, format, symmetric, group_size (None: the scheme's own), steps, pieces."""
    job = json.loads(path.read_text(encoding="utf-8"))
    pieces = [torch.tensor([piece]) for piece in job["pieces"]]
    given = {"sym": job["symmetric"], **({"group_size": job["group_size"]} if job["group_size"] else {})}
    if pieces:
        given |= {"dataset": pieces, "nsamples": len(pieces), "seqlen": len(job["pieces"][0])}
    else:  # to the nearest value: every other way of AutoRound's fetches a text of its own
        given |= {"disable_opt_rtn": True, "disable_model_free": True}
    compressor = AutoRound(
        job["model"],
        scheme=job["scheme"],
        iters=job["steps"] if pieces else 0,
        batch_size=min(8, max(1, len(pieces))),
        device_map="auto" if torch.cuda.is_available() else "cpu",
        **given,
    )
    compressor.quantize_and_save(job["target"], format=job["format"])
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

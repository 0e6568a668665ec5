"""`trimtab-engine quantize`: round a model's weights, and keep them when the engine still says the same of a text."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from trimtab_engine.engines.common.faithful import (
    CHECK,
    MOST_TOKENS,
    REFERENCE,
    TEXT,
    Comparison,
    Tolerance,
    compare,
    reference,
)
from trimtab_engine.quantize.schemes import SCHEMES, Scheme, objection
from trimtab_engine.quantize.text import Pieces, TextError, documents, pieces

ROUNDING = (sys.executable, "-m", "trimtab_engine.quantize.rounding")
SCORING = (sys.executable, "-m", "trimtab_engine.quantize.scoring")
NEEDS = {"auto_round": "auto-round", "vllm": "vllm"}


class QuantizeError(RuntimeError):
    """The model was not quantized; the message says why and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where OUT is there and may be used, 1 where what came of it differs too much, 2 where it could not be made."""
    args = _parser().parse_args(arguments)
    try:
        comparison, refusal = quantize(args, lambda text: print(text, file=sys.stderr, flush=True))
    except (QuantizeError, TextError, OSError) as error:
        print(f"trimtab-engine quantize: {error}", file=sys.stderr)
        return 2
    print(json.dumps({"out": str(args.out), **comparison.as_json(), "refused": refusal}))
    return 1 if refusal else 0


def quantize(args: argparse.Namespace, tell: Callable[[str], None]) -> tuple[Comparison, str]:
    """What the engine says of the two models, and why the new one is refused (empty: it is in `args.out`).

    Raises QuantizeError and TextError.
    """
    scheme = SCHEMES[args.scheme]
    _checked(args, scheme)
    found = _pieces(args)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".quantize-", dir=args.out.parent) as folder:
        draft = Path(folder)
        tell(f"rounding to {scheme.title}" + (f", from {len(found.learned)} pieces of text" if found.learned else ""))
        made = _rounded(args, scheme, found, draft)
        tell(f"asking vLLM about {sum(len(piece) - 1 for piece in found.asked)} tokens, of both models")
        (draft / "asked.json").write_text(json.dumps(found.asked), encoding="utf-8")
        original, candidate = (_scored(model, draft) for model in (args.model, made))
        comparison = compare(original, candidate)
        refusal = comparison.objection(_tolerance(args, scheme))
        if not refusal or args.keep_refused:
            (made / CHECK).write_text(json.dumps(comparison.as_json()), encoding="utf-8")
            known = reference(found.asked, original, candidate, _tolerance(args, scheme))
            if known is not None:  # for whoever serves it
                (made / REFERENCE).write_text(json.dumps(known.as_json()), encoding="utf-8")
            made.replace(args.out)
    return comparison, refusal


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trimtab-engine quantize", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of the model, not quantized yet")
    parser.add_argument("--out", type=Path, required=True, help="folder that is made; it must not exist")
    what = "; ".join(f"{name}: {scheme.title}" for name, scheme in SCHEMES.items())
    parser.add_argument("--scheme", choices=[*SCHEMES], default="gptq", help=what)
    parser.add_argument("--group-size", type=int, choices=(32, 64, 128), default=128, help="weights that share a scale")
    parser.add_argument("--text", type=Path, help="what the rounding learns from: text, or .jsonl with a field text")
    parser.add_argument("--tokens", type=int, default=512, help="tokens of a piece of the text")
    parser.add_argument("--pieces", type=int, default=128, help="pieces that are learned from, at most")
    parser.add_argument("--steps", type=int, default=200, help="steps of descent for each block")
    parser.add_argument("--largest-difference", type=float, help="nats of a token's log-probability, on average")
    parser.add_argument("--largest-perplexity-rise", type=float, default=2.0, metavar="PERCENT")
    parser.add_argument("--keep-refused", action="store_true", help="keep OUT although it differs too much")
    return parser


def _checked(args: argparse.Namespace, scheme: Scheme) -> None:
    missing = [package for module, package in NEEDS.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise QuantizeError(f"{' and '.join(missing)} is not installed; see requirements-engine-quantize.lock")
    if args.out.exists():
        raise QuantizeError(f"--out: {args.out} exists; remove it, or name another folder")
    if args.tokens < 32 or args.pieces < 1 or args.steps < 0:
        raise QuantizeError("--tokens is at least 32, --pieces at least 1, and --steps not negative")
    try:
        config = json.loads((args.model / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise QuantizeError(f"--model: {args.model} has no readable config.json: {error}") from error
    against = objection(config, scheme, args.group_size)
    if against:
        raise QuantizeError(f"--model: {against}")


def _pieces(args: argparse.Namespace) -> Pieces:
    """Of the user's text; without one nothing is learned, and both models are asked about a text of ours."""
    if not (args.model / "tokenizer.json").is_file():
        raise QuantizeError(f"--model: {args.model} has no tokenizer.json; save its tokenizer as a fast one")
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    if args.text is None:
        return Pieces((), (tuple(tokenizer.encode(TEXT).ids[:MOST_TOKENS]),))
    try:
        texts = documents(args.text.read_text(encoding="utf-8"), lines=args.text.suffix == ".jsonl")
        return pieces([token for text in texts for token in tokenizer.encode(text).ids], args.tokens, most=args.pieces)
    except (TextError, UnicodeDecodeError) as error:
        raise QuantizeError(f"--text: {args.text}: {error}") from error


def _tolerance(args: argparse.Namespace, scheme: Scheme) -> Tolerance:
    usual = Tolerance(difference=scheme.difference, perplexity=args.largest_perplexity_rise / 100)
    return usual if args.largest_difference is None else replace(usual, difference=args.largest_difference)


def _rounded(args: argparse.Namespace, scheme: Scheme, found: Pieces, draft: Path) -> Path:
    """The folder of the rounded model, which AutoRound names itself."""
    job: dict[str, Any] = {
        "model": str(args.model),
        "target": str(draft / "model"),
        "scheme": scheme.base,
        "format": scheme.format,
        "symmetric": scheme.symmetric,
        "group_size": args.group_size if scheme.grouped else None,
        "steps": args.steps,
        "pieces": found.learned,
    }
    (draft / "job.json").write_text(json.dumps(job), encoding="utf-8")
    _run([*ROUNDING, str(draft / "job.json")], "the model could not be rounded")
    made = [path.parent for path in (draft / "model").rglob("config.json")]
    if len(made) != 1:
        raise QuantizeError(f"the model could not be rounded: {len(made)} models were written instead of one")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json"):
        if (args.model / name).is_file() and not (made[0] / name).exists():
            shutil.copy2(args.model / name, made[0] / name)
    return made[0]


def _scored(model: Path, draft: Path) -> list[float]:
    target = draft / "scores.json"
    _run([*SCORING, str(model), str(draft / "asked.json"), str(target)], f"vLLM cannot run {model.name}")
    return [float(value) for value in json.loads(target.read_text(encoding="utf-8"))]


def _run(command: Sequence[str], trouble: str) -> None:
    """Raises QuantizeError with the last lines of what the program said."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    done = subprocess.run(
        list(command), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if line.strip()]
        raise QuantizeError(f"{trouble} (status {done.returncode}):\n" + "\n".join(said[-15:]))


if __name__ == "__main__":
    sys.exit(main())

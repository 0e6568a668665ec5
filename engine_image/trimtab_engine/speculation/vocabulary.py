"""Whether a draft model speaks the tokens of the model that it guesses for, by the files of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def objection(model: str, draft: Path) -> str:
    """Why the draft cannot guess for the model; empty where it can."""
    folders = (Path(model), draft)
    for folder in folders:
        if not (folder / "config.json").is_file():
            return f"{folder} is no folder with a model, so the vocabularies cannot be compared"
    try:
        (words, size), (other_words, other_size) = (_vocabulary(folder) for folder in folders)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"the vocabularies cannot be compared: {type(error).__name__}: {error}"[:300]
    if size != other_size:
        return f"the draft has {other_size} tokens and the model {size}"
    if words != other_words:
        return "the draft's tokenizer gives texts other tokens than the model's"
    return ""


def _vocabulary(folder: Path) -> tuple[object, int]:
    """What makes tokens of a text, and how many tokens the model has."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    size = int(config.get("vocab_size") or config["text_config"]["vocab_size"])
    tokenizer = folder / "tokenizer.json"
    if tokenizer.is_file():
        return _words(json.loads(tokenizer.read_text(encoding="utf-8"))), size
    # SentencePiece's own file, of older models.
    return (folder / "tokenizer.model").read_bytes(), size


def _words(tokenizer: dict[str, Any]) -> object:
    """What decides about tokens; how texts are cut, filled up or decoded afterwards does not."""
    model = tokenizer["model"]
    added = sorted((entry["id"], entry["content"]) for entry in tokenizer.get("added_tokens") or ())
    return model["vocab"], model.get("merges"), tokenizer.get("normalizer"), tokenizer.get("pre_tokenizer"), added

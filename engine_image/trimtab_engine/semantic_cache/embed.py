"""Vectors of texts, by a sentence-embedding model in ONNX Runtime.

A folder as sentence-transformers' models are published, such as all-MiniLM-L6-v2: `tokenizer.json`, and `model.onnx`
in it or in its folder `onnx`, with `last_hidden_state` as its first output. A text's vector is the mean of its tokens'
outputs, of length one (Reimers and Gurevych, "Sentence-BERT", 2019).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

LONGEST_TOKENS = 256  # max_seq_length of all-MiniLM-L6-v2


class Embedder(Protocol):
    """`space` names the model: vectors of different spaces have nothing to do with each other."""

    @property
    def space(self) -> str: ...

    @property
    def width(self) -> int: ...

    def embed(self, text: str) -> Vector | None:
        """A vector of length one, or None where the model cannot take the whole text."""


class OnnxEmbedder:
    """One text at a time, on one core: a question is short, and the engine needs the other cores.

    Raises:
        OSError: a file is missing.
        ValueError: the model has other inputs or outputs than an embedding model.
    """

    def __init__(self, folder: Path) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        model = next((path for path in (folder / "model.onnx", folder / "onnx" / "model.onnx") if path.is_file()), None)
        if model is None:
            raise FileNotFoundError(f"{folder} has neither model.onnx nor onnx/model.onnx")
        if not (folder / "tokenizer.json").is_file():
            raise FileNotFoundError(f"{folder} has no tokenizer.json")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._inputs = {one.name for one in self._session.get_inputs()}
        if not {"input_ids", "attention_mask"} <= self._inputs <= {"input_ids", "attention_mask", "token_type_ids"}:
            raise ValueError(f"{model.name} takes {', '.join(sorted(self._inputs))}, not what a text encoder takes")
        probe = self.embed("width")
        if probe is None:
            raise ValueError(f"{model.name} does not answer with one vector for each token")
        self.width = len(probe)
        self.space = hashlib.sha256(model.read_bytes()).hexdigest()[:16]

    def embed(self, text: str) -> Vector | None:
        ids = self._tokenizer.encode(text).ids
        if not 0 < len(ids) <= LONGEST_TOKENS:
            return None
        tokens = np.asarray([ids], dtype=np.int64)
        given: dict[str, Any] = {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
        if "token_type_ids" in self._inputs:
            given["token_type_ids"] = np.zeros_like(tokens)
        hidden = np.asarray(self._session.run(None, given)[0], dtype=np.float32)
        if hidden.ndim != 3 or hidden.shape[:2] != tokens.shape:
            return None
        mean = hidden[0].mean(axis=0)
        length = float(np.linalg.norm(mean))
        return mean / length if np.isfinite(length) and length > 0 else None

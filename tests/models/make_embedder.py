"""A small sentence-embedding model in ONNX: a table of random vectors, one for each pair of letters.

Texts that are the same but for case and punctuation get the same vector, texts that share most words near ones: random
indexing (Kanerva, Kristoferson and Holst, 2000). It knows no meanings, and needs no weights from anywhere; what reads
it, runs it and compares its vectors is what a trained model of the same interface goes through.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

WIDTH = 384  # of all-MiniLM-L6-v2
WORDS = 5000


def write(folder: Path, *, width: int = WIDTH, seed: int = 0) -> Path:
    """`tokenizer.json` and `model.onnx` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    _tokenizer().save(str(folder / "tokenizer.json"))
    table = np.random.default_rng(seed).standard_normal((WORDS, width)).astype(np.float32)
    ids, mask, kinds = (
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    hidden = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "tokens", width])
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Cast", ["attention_mask"], ["kept"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["kept", "last"], ["wide"]),
        helper.make_node("Mul", ["words", "wide"], ["last_hidden_state"]),
    ]
    axis = numpy_helper.from_array(np.asarray([2], dtype=np.int64), "last")
    given = [numpy_helper.from_array(table, "table"), axis]
    graph = helper.make_graph(nodes, "embedder", [ids, mask, kinds], [hidden], initializer=given)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(folder / "model.onnx"))
    return folder


def _tokenizer() -> Tokenizer:
    """Lower-case words in pairs of letters, without punctuation."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = {"[UNK]": 0, **{letter: number + 1 for number, letter in enumerate(letters)}}
    for first in letters:
        for second in letters:
            words[first + second] = len(words)
            words[f"##{first}{second}"] = len(words)
    for letter in letters:
        words[f"##{letter}"] = len(words)
    tokenizer = Tokenizer(models.WordPiece(vocab=words, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(behavior="removed")]
    )
    return tokenizer

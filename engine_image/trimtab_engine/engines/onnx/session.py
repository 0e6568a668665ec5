"""A converted model in ONNX Runtime, with a KV cache of rows that the graph writes in place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import onnxruntime

from trimtab_engine.engines.facts import Attention
from trimtab_engine.engines.onnx.sampling import Logits


class Session:
    """`folder` holds what onnxruntime-genai's model builder (0.18) wrote. The cache takes memory as rows fill it.

    Its graphs share one buffer between past and present keys and values, and take the length of each row from the
    attention mask; several tokens after others they compute for one row at a time (GroupQueryAttention, 1.31).
    """

    def __init__(self, folder: Path, *, rows: int, context: int, threads: int = 0) -> None:
        """Raises ValueError where the graph keeps its cache in a way that is not known here."""
        about = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))["model"]
        decoder = about["decoder"]
        self.vocabulary = int(about["vocab_size"])
        self.context = min(context, int(about["context_length"]))
        self.end_tokens = _numbers(about.get("eos_token_id"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(folder / decoder["filename"]), options, providers=["CPUExecutionProvider"]
        )
        kernels = {node.op_type for node in onnx_ir.load(folder / decoder["filename"]).graph if _attends(node.op_type)}
        self.attention = Attention(kernel=" and ".join(sorted(kernels)) or "plain operators", device="cpu")
        kinds = {entry.name: entry.type for entry in self._session.get_inputs()}
        shape = (rows, int(decoder["num_key_value_heads"]), self.context, int(decoder["head_size"]))
        ins, outs = decoder["inputs"], decoder["outputs"]
        self._caches: list[tuple[str, str, Any]] = []
        for layer in range(int(decoder["num_hidden_layers"])):
            for past, present in (
                (ins["past_key_names"], outs["present_key_names"]),
                (ins["past_value_names"], outs["present_value_names"]),
            ):
                if kinds[past % layer] != "tensor(float)":
                    raise ValueError(f"the converted model keeps its cache as {kinds[past % layer]}, not as float")
                self._caches.append((past % layer, present % layer, np.zeros(shape, np.float32)))
        self._names = (ins["input_ids"], ins["attention_mask"], outs["logits"])

    def extend(self, row: int, tokens: list[int], past: int) -> Logits:
        return self._run(slice(row, row + 1), [tokens], [past + len(tokens)]).reshape(len(tokens), -1)

    def step(self, tokens: list[int], past: list[int]) -> Logits:
        logits = self._run(slice(0, len(tokens)), [[token] for token in tokens], [length + 1 for length in past])
        return logits.reshape(len(tokens), -1)

    def move(self, source: int, target: int, length: int) -> None:
        for _, _, cache in self._caches:
            cache[target, :, :length] = cache[source, :, :length]

    @property
    def bytes_per_token(self) -> int:
        """Of the keys and values of one token."""
        return sum(cache[0, :, 0].nbytes for _, _, cache in self._caches)

    def take(self, row: int, start: int, end: int) -> Any:
        """Keys and values of these tokens, by cache, head, token and place in the head."""
        return np.stack([cache[row, :, start:end] for _, _, cache in self._caches])

    def put(self, row: int, start: int, copy: Any) -> None:
        for (_, _, cache), part in zip(self._caches, copy, strict=True):
            cache[row, :, start : start + part.shape[1]] = part

    def _run(self, rows: slice, tokens: list[list[int]], lengths: list[int]) -> Logits:
        """Logits by row, token and word."""
        value = onnxruntime.OrtValue.ortvalue_from_numpy
        mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
        ids_name, mask_name, logits_name = self._names
        binding = self._session.io_binding()
        held = [np.array(tokens, dtype=np.int64), mask]  # as long as the binding refers to them
        binding.bind_ortvalue_input(ids_name, value(held[0]))
        binding.bind_ortvalue_input(mask_name, value(held[1]))
        binding.bind_output(logits_name)
        for past, present, cache in self._caches:
            part = value(cache[rows])  # a view, so that the graph writes into the cache
            binding.bind_ortvalue_input(past, part)
            binding.bind_ortvalue_output(present, part)
        self._session.run_with_iobinding(binding)
        logits: Logits = binding.get_outputs()[0].numpy()
        return logits


def _attends(operator: str) -> bool:
    return "Attention" in operator


def _numbers(found: object) -> list[int]:
    if found is None:
        return []
    return [int(str(number)) for number in (found if isinstance(found, list) else [found])]

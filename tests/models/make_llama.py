"""Makes a small Llama with random weights and a byte-level tokenizer, offline and without any package.

The result is an ordinary Hugging Face model folder that any engine loads: config.json, generation_config.json,
model.safetensors (bfloat16), tokenizer.json and tokenizer_config.json. Only the standard library is used, so the
same program runs in a test, in an image build and on a laptop, and the same arguments give the same bytes.

One byte of text is one token, and the output head is shaped so that the model speaks printable ASCII and does not
stop by itself: a load generator can ask for an exact number of tokens in and out. Random weights say nothing about
quality; they cost as much to run as trained ones.

    python -m tests.models.make_llama             # makes m75 once, prints its folder
    python -m tests.models.make_llama --size tiny --out DIR
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import statistics
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

VOCABULARY = 512
BOS, EOS, PAD = 256, 257, 258
PRINTABLE = range(0x20, 0x7F)

# Raised whenever the bytes that this program writes change, so that caches notice.
FORMAT = 2


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The shape of a Llama; `seed` fixes its weights."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    max_positions: int = 2048
    seed: int = 20260717

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads

    def parameters(self) -> int:
        """How many numbers the model has."""
        return sum(rows * (columns or 1) for _, rows, columns, _ in _tensors(self))


SHAPES = {
    "m75": Shape(hidden=768, intermediate=2048, layers=12, heads=12, kv_heads=4),
    "tiny": Shape(hidden=128, intermediate=256, layers=2, heads=4, kv_heads=2),
}

Fill = Callable[[random.Random, int, int], bytes]


def _bfloat16(value: float) -> bytes:
    """`value` as two little-endian bytes, rounded to nearest."""
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    return struct.pack("<H", (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16)


def _gaussian(deviation: float) -> Fill:
    """Numbers from a normal distribution held as its 256 mid-quantiles: one random byte draws one weight."""
    normal = statistics.NormalDist(0.0, deviation)
    values = [_bfloat16(normal.inv_cdf((i + 0.5) / 256)) for i in range(256)]
    low, high = bytes(v[0] for v in values), bytes(v[1] for v in values)

    def fill(source: random.Random, rows: int, columns: int) -> bytes:
        drawn = source.randbytes(rows * columns)
        out = bytearray(2 * len(drawn))
        out[0::2] = drawn.translate(low)
        out[1::2] = drawn.translate(high)
        return bytes(out)

    return fill


def _ones(_: random.Random, rows: int, columns: int) -> bytes:
    return _bfloat16(1.0) * (rows * (columns or 1))


def _speaking_head(source: random.Random, rows: int, columns: int) -> bytes:
    """Zero rows for every token but printable ASCII, so that a sampled token is printable and never the stop token."""
    draw, silent = _gaussian(0.15), bytes(2 * columns)
    return b"".join(draw(source, 1, columns) if row in PRINTABLE else silent for row in range(rows))


def _tensors(shape: Shape) -> Iterator[tuple[str, int, int, Fill]]:
    """Name, rows, columns (0: a vector) and contents of every tensor, in the order of the file."""
    embeddings, weights = _gaussian(1.0), _gaussian(0.02)
    kv_width = shape.kv_heads * shape.head_size
    yield "model.embed_tokens.weight", VOCABULARY, shape.hidden, embeddings
    for layer in range(shape.layers):
        at = f"model.layers.{layer}."
        yield at + "input_layernorm.weight", shape.hidden, 0, _ones
        yield at + "self_attn.q_proj.weight", shape.hidden, shape.hidden, weights
        yield at + "self_attn.k_proj.weight", kv_width, shape.hidden, weights
        yield at + "self_attn.v_proj.weight", kv_width, shape.hidden, weights
        yield at + "self_attn.o_proj.weight", shape.hidden, shape.hidden, weights
        yield at + "post_attention_layernorm.weight", shape.hidden, 0, _ones
        yield at + "mlp.gate_proj.weight", shape.intermediate, shape.hidden, weights
        yield at + "mlp.up_proj.weight", shape.intermediate, shape.hidden, weights
        yield at + "mlp.down_proj.weight", shape.hidden, shape.intermediate, weights
    yield "model.norm.weight", shape.hidden, 0, _ones
    yield "lm_head.weight", VOCABULARY, shape.hidden, _speaking_head


def _write_weights(shape: Shape, path: Path) -> None:
    """The safetensors format: length of the header, header in JSON, then the tensors one after the other."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, rows, columns, _ in _tensors(shape):
        size = 2 * rows * (columns or 1)
        header[name] = {
            "dtype": "BF16",
            "shape": [rows, columns] if columns else [rows],
            "data_offsets": [offset, offset + size],
        }
        offset += size
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    source = random.Random(shape.seed)
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(head)) + head)
        for _, rows, columns, fill in _tensors(shape):
            out.write(fill(source, rows, columns))


def _byte_alphabet() -> list[str]:
    """The printable character that byte-level BPE (GPT-2) writes for each byte 0..255."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(0x100, 0x200))
    return [chr(byte) if byte in shown else chr(next(hidden)) for byte in range(256)]


def _special_tokens() -> dict[int, str]:
    named = {BOS: "<s>", EOS: "</s>", PAD: "<pad>"}
    return {number: named.get(number, f"<unused{number}>") for number in range(256, VOCABULARY)}


def _tokenizer() -> dict[str, object]:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": number,
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for number, text in _special_tokens().items()
        ],
        "normalizer": None,
        # Each byte is a word of its own. A tokenizer keeps ten thousand words for each of its threads, and were a whole
        # prompt one word, the server would grow by every prompt for as long.
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [_byte_level(), _single_characters()]},
        "post_processor": None,
        "decoder": _byte_level(),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {character: byte for byte, character in enumerate(_byte_alphabet())},
            "merges": [],
        },
    }


def _byte_level() -> dict[str, object]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def _single_characters() -> dict[str, object]:
    return {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False}


def _tokenizer_config(shape: Shape) -> dict[str, object]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": shape.max_positions,
        "clean_up_tokenization_spaces": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "chat_template": "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}",
    }


def _config(shape: Shape) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_size,
        "hidden_act": "silu",
        "max_position_embeddings": shape.max_positions,
        "initializer_range": 0.02,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "use_cache": True,
        "vocab_size": VOCABULARY,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
        "dtype": "bfloat16",
    }


def write(shape: Shape, folder: Path) -> None:
    """Writes the model into `folder`, which must be empty or not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = {
        "config.json": _config(shape),
        "generation_config.json": {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD},
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": _tokenizer_config(shape),
    }
    for name, document in documents.items():
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        (folder / name).write_text(text, encoding="utf-8")
    _write_weights(shape, folder / "model.safetensors")


def cache_root() -> Path:
    """Where large things are kept between runs: $TRIMTAB_CACHE, or a folder in the user's cache."""
    return Path(os.environ.get("TRIMTAB_CACHE") or Path.home() / ".cache" / "trimtab")


def cached(size: str = "m75") -> Path:
    """The folder of the model of that size, made on the first call."""
    shape = SHAPES[size]
    key = hashlib.sha256(json.dumps([FORMAT, asdict(shape)], sort_keys=True).encode()).hexdigest()[:12]
    return kept(f"{size}-{key}", lambda made: write(shape, made))


def kept(name: str, make: Callable[[Path], object]) -> Path:
    """The folder of that name in the cache of models; `make` fills it on the first call.

    Safe when several processes call at once.
    """
    folder = cache_root() / "models" / name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
    try:
        make(made)
        made.chmod(0o755)
        made.rename(folder)
    except (OSError, subprocess.CalledProcessError):
        shutil.rmtree(made, ignore_errors=True)
        if not folder.is_dir():  # not merely another process that was faster
            raise
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a small Llama with random weights.")
    parser.add_argument("--size", choices=sorted(SHAPES), default="m75")
    parser.add_argument("--out", type=Path, help="folder to write; default: the cache")
    args = parser.parse_args()
    if args.out:
        write(SHAPES[args.size], args.out)
    print(args.out or cached(args.size))


if __name__ == "__main__":
    main()

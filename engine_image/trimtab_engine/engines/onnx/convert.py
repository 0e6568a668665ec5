"""Converted models in a folder of their own, by the hash of what they were converted from and by what."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from trimtab_engine.config.engines import OnnxConfig
from trimtab_engine.engines.common.faithful import CHECK, Comparison, Tolerance

log = logging.getLogger("trimtab_engine.onnx")

PREPARE = ("-m", "trimtab_engine.engines.onnx.prepare")  # the program that converts and compares
# Nats by which the log-probability of a token may differ on average. fp32 computes the same sums in another order;
# PyTorch's side computes in fp32, too, whatever the format of the weights.
DIFFERENCES = {"fp32": 0.001, "int8": 0.1, "int4": 0.25}


class ConversionError(RuntimeError):
    """The model cannot be converted, or what came of it may not be used; the message says why."""


def tolerance(config: OnnxConfig) -> Tolerance:
    """What the configuration allows."""
    given = config.largest_difference
    return Tolerance(
        difference=DIFFERENCES[config.precision] if given is None else given,
        perplexity=config.largest_perplexity_rise_percent / 100,
    )


def converted(model: str, config: OnnxConfig) -> Path:
    """The folder of the converted model, made and compared with PyTorch on the first call.

    Raises ConversionError where the model is no folder, cannot be converted, or differs too much.
    """
    source = Path(model)
    if not source.is_dir():
        raise ConversionError(f"{model} is no folder; ONNX Runtime converts models from folders only")
    root = (config.cache_folder or default_cache()) / "onnx"
    folder = root / key(source, config.precision)
    root.mkdir(parents=True, exist_ok=True)
    with Path(f"{folder}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # whoever comes meanwhile waits, and finds it
        if not (folder / CHECK).exists():
            _convert(source, folder, config.precision)
    comparison = Comparison(**json.loads((folder / CHECK).read_text(encoding="utf-8")))
    objection = comparison.objection(tolerance(config))
    if objection:
        raise ConversionError(f"the {config.precision} conversion may not be used: {objection}")
    log.info("The %s conversion in %s agrees with PyTorch: %s", config.precision, folder, comparison)
    return folder


def key(source: Path, precision: str) -> str:
    """Hash of every file of the model, the precision and the converter."""
    digest = hashlib.sha256(f"{precision} {importlib.metadata.version('onnxruntime-genai')}".encode())
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        digest.update(f"\0{path.relative_to(source)}\0".encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def default_cache() -> Path:
    """In the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trimtab-engine"


def _convert(source: Path, folder: Path, precision: str) -> None:
    """In another process, whose memory is free afterwards: it holds the whole model in 32 bits."""
    log.info("Converting %s to %s for ONNX Runtime", source, precision)
    shutil.rmtree(folder, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent))
    try:
        command = [sys.executable, *PREPARE, str(source), str(draft), precision]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            log.error("The conversion failed:\n%s", done.stdout[-5000:])
            last = done.stdout.strip().splitlines()[-1:] or [f"status {done.returncode}"]
            raise ConversionError(f"the model cannot be converted: {last[0]}")
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)

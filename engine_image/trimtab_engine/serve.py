"""`trimtab-engine serve`: the first engine that can, with live limits, admission, time-outs and health around it."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trimtab_engine.config.load import ConfigError, fields, load, variable
from trimtab_engine.config.model import Config
from trimtab_engine.config.parallel import misfits
from trimtab_engine.server.chain import Runner
from trimtab_engine.server.gpu_watch import GpuWatch
from trimtab_engine.server.log import log_to_stderr
from trimtab_engine.server.placing import Placer
from trimtab_engine.shared.folder import VARIABLE

_KEEP_ALIVE = "VLLM_HTTP_TIMEOUT_KEEP_ALIVE"  # seconds; vLLM 0.32 has no flag for it (`vllm/envs.py`)
# oneDNN keeps the kernels of every number of tokens that a step ever had, up to 1,024. A step of a Llama needs five;
# compiling them again costs less than can be measured (decision 42).
_KERNELS, _KEPT_KERNELS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", 128


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    at = given.index("--") if "--" in given else len(given)
    args = _parser().parse_args(given[:at])
    if args.describe:
        print(describe())
        return 0
    try:
        config = _config(args, given[at + 1 :], os.environ)
    except ConfigError as error:
        return _refuse(error)
    log_to_stderr()
    return run(config)


def run(config: Config) -> int:
    """Serves until the engine ends; its exit code."""
    folder = Path(tempfile.mkdtemp(prefix="trimtab-engine-"))
    watch = GpuWatch(config.gpus, os.environ)
    try:
        watch.start()
        placer = Placer(config, folder, watch)
        problems = misfits(config, placer.shape, len(watch.gpus()) or None)
        if problems:
            return _refuse(ConfigError("\n".join(problems)))
        return Runner(config, folder, environment_of(config, folder, os.environ), placer).run()
    finally:
        watch.close()
        shutil.rmtree(folder, ignore_errors=True)


def _refuse(error: ConfigError) -> int:
    print("The configuration cannot be used:", *str(error).splitlines(), sep="\n  ", file=sys.stderr)
    return 2


def environment_of(config: Config, folder: Path, given: Mapping[str, str]) -> dict[str, str]:
    """What engines find. vLLM's variable for idle connections and oneDNN's for kernels win where they are set."""
    own = {_KEEP_ALIVE: str(config.server.keep_alive_seconds), _KERNELS: str(_KEPT_KERNELS)}
    return {**own, **given, VARIABLE: str(folder)}


def describe() -> str:
    """Every field with its variable, default and meaning."""
    lines = []
    for way, field in fields():
        default = "required" if field.is_required() else f"default: {_shown(field.default)}"
        lines.append(f"{way}\n    {field.description} ({default})\n    {variable(way)}")
    return "\n".join(lines)


def _shown(default: object) -> str:
    return "null" if default is None else "[]" if default == () else str(default)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trimtab-engine serve",
        description="Serve a model. Arguments after `--` are vLLM's own.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", help="YAML file; default: the variable TRIMTAB_ENGINE_CONFIG")
    parser.add_argument("--model", help="folder of the model, or its name on a hub")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--settings-file", help="file whose limits are taken up while the server runs")
    parser.add_argument("--describe", action="store_true", help="print every field of the configuration, and end")
    return parser


def _config(args: argparse.Namespace, engine_arguments: Sequence[str], environment: Mapping[str, str]) -> Config:
    named = args.config or environment.get("TRIMTAB_ENGINE_CONFIG")
    text = None
    if named:
        try:
            text = Path(named).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the file {named} cannot be read: {error}") from error
    flags: dict[str, Any] = {
        "model": args.model,
        "server.host": args.host,
        "server.port": args.port,
        "settings_file": args.settings_file,
        "engines.vllm.arguments": tuple(engine_arguments) or None,
    }
    return load(text, environment, {way: value for way, value in flags.items() if value is not None})

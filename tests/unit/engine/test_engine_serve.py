"""`trimtab-engine serve` up to the engine's first line: what it is started with, and who gets the signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trimtab_engine import main

ENGINE_IMAGE = Path(main.__file__).parents[1]
# In the place of vLLM's command line: says how it was started, and ends with 7 when it is asked to.
STAND_IN = """
import json, os, signal, sys, time
run = os.environ["TRIMTAB_ENGINE_RUN"]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
start = json.load(open(os.path.join(run, "start.json")))
print(json.dumps({"arguments": sys.argv[1:], "run": run, "start": start}), flush=True)
time.sleep(60)
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> dict[str, str]:
    """The environment in which `vllm` is the stand-in."""
    folder = tmp_path / "path" / "vllm" / "entrypoints" / "cli"
    folder.mkdir(parents=True)
    (folder / "main.py").write_text(STAND_IN)
    path = os.pathsep.join((str(tmp_path / "path"), str(ENGINE_IMAGE)))
    return {**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)}


def test_the_engine_gets_the_configuration_our_signals_and_leaves_nothing_behind(
    tmp_path: Path, stand_in: dict[str, str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("model: /models/m75\nserver: {port: 8001}\n")
    words = ["serve", "--config", str(config), "--host", "127.0.0.1", "--", "--max-num-seqs", "8"]
    command = [sys.executable, "-m", "trimtab_engine.main", *words]
    with subprocess.Popen(command, env=stand_in, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 7
    assert said["arguments"][:2] == ["serve", "/models/m75"]
    assert said["arguments"][-2:] == ["--max-num-seqs", "8"]
    assert said["start"]["server"]["host"] == "127.0.0.1"
    assert Path(said["run"]).parent == tmp_path
    assert not Path(said["run"]).exists()


def test_a_configuration_that_cannot_be_used_ends_at_once_and_names_the_fields(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMTAB_ENGINE_LIMITS__KV_HEADROOM_PERCENT", "95")
    assert main.main(["serve", "--port", "70000"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "The configuration cannot be used:"
    assert [line.split(":")[0].strip() for line in said[1:]] == ["model", "server.port", "limits.kv_headroom_percent"]


def test_a_configuration_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["serve", "--config", "/nowhere/config.yaml"]) == 2
    assert "the file /nowhere/config.yaml cannot be read" in capsys.readouterr().err


def test_every_field_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["serve", "--describe"]) == 0
    said = capsys.readouterr().out
    assert "server.port\n    port that the server listens on (default: 8000)\n    TRIMTAB_ENGINE_SERVER__PORT" in said
    assert "model\n    folder of the model, or its name on a hub (required)" in said

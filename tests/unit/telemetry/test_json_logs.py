"""Logs: one JSON object a line, without secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.telemetry import logs

SECRET = "s3cr3t-Value_that.must~not+leak"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """The configured log; the root logger is put back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    text = io.StringIO()
    logs.configure(stream=text)
    yield text
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"password={SECRET}",
        f'{{"token": "{SECRET}", "name": "x"}}',
        f"HF_TOKEN={SECRET}",
        f"--api-key={SECRET}",
        f"client_secret: '{SECRET}'",
        "cannot reach http://user:s3cr3t-Value_that.must~not+leak@host:9090/api",
        "-----BEGIN RSA PRIVATE KEY-----\ns3cr3t-Value_that.must~not+leak\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_credential_is_taken_out(text: str) -> None:
    assert SECRET not in logs.redacted(text)
    assert "redacted" in logs.redacted(text)


@pytest.mark.parametrize(
    "token", ["hf_" + "a1B2" * 8, "sk-" + "a1B2" * 8, "eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.c2lnbmF0dXJl"]
)
def test_well_known_tokens_are_known_by_their_shape(token: str) -> None:
    assert token not in logs.redacted(f"the answer was {token}.")


def test_ordinary_words_stay() -> None:
    text = "n/d: TTFT p95 812 ms, 1024 tokens/s; maxNumSeqs 1 -> 32 at http://prometheus:9090"
    assert logs.redacted(text) == text


@given(st.text(max_size=200))
def test_any_text_can_be_logged_as_one_line(text: str) -> None:
    record = logging.makeLogRecord({"name": "x", "levelname": "INFO", "msg": "%s", "args": (text,), "extra_text": text})
    line = logs.JsonFormatter().format(record)
    assert "\n" not in line
    assert isinstance(json.loads(line)["message"], str)


def test_a_line_holds_what_was_passed_along_and_the_error(stream: io.StringIO) -> None:
    try:
        raise ValueError(f"password={SECRET}")
    except ValueError:
        logging.getLogger("trimtab.x").exception("it failed", extra={"resource": "d", "api_token": SECRET, "list": [1]})
    (line,) = lines(stream)
    assert (line["level"], line["logger"], line["message"]) == ("ERROR", "trimtab.x", "it failed")
    assert line["resource"] == "d"
    assert line["list"] == [1]
    assert line["error"].startswith("ValueError")
    assert SECRET not in stream.getvalue()


def test_a_reconcile_is_one_line_with_its_outcome_and_its_times(stream: io.StringIO) -> None:
    logs.reconciled(
        "n",
        "d",
        "ok",
        seconds={"observe": 0.0123, "plan": 0.5},
        reason="CanaryJudging",
        message="12 of 30 requests seen.",
    )
    (line,) = lines(stream)
    assert line["message"] == "n/d: 12 of 30 requests seen."
    assert line["namespace"] == "n"
    assert line["resource"] == "d"
    assert line["outcome"] == "ok"
    assert line["reason"] == "CanaryJudging"
    assert line["milliseconds"] == {"observe": 12.3, "plan": 500.0}


def test_libraries_speak_from_warning_on(stream: io.StringIO) -> None:
    logging.getLogger("kopf.objects").info("Handling an event")
    logging.getLogger("urllib3").info("a connection")
    logging.getLogger("kopf.objects").warning("something is wrong")
    assert [line["message"] for line in lines(stream)] == ["something is wrong"]


def test_plain_lines_are_redacted_too() -> None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    text = io.StringIO()
    try:
        logs.configure(stream=text, as_json=False)
        logging.getLogger("trimtab").warning("token=%s", SECRET)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert SECRET not in text.getvalue()
    assert "WARNING trimtab" in text.getvalue()

"""`report.html`: the whole demo on one page that needs nothing else, the picture included."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from tests.e2e.demo.result import Result
from tests.e2e.demo.table import milliseconds
from tests.e2e.loadgen import Window
from tests.e2e.view import Attempt


@dataclass(frozen=True, kw_only=True)
class Story:
    """What the report tells besides the result."""

    facts: Sequence[tuple[str, str]]
    told: Sequence[tuple[str, Sequence[str]]]  # act, and what happened in it
    attempts: Sequence[Attempt]
    plan: str
    describe: str
    events: str


def comparison(before: Window | None, after: Window | None) -> list[tuple[str, str, str, str]]:
    """(metric, before, after, change) for people."""

    def shown(window: Window | None, pick: str) -> tuple[float | None, str]:
        value = getattr(window, pick) if window else None
        if pick == "output_tokens_per_s":
            return value, "-" if value is None else f"{value:.0f}"
        return value, milliseconds(value)

    rows = []
    for name, pick in (
        ("output tokens per second", "output_tokens_per_s"),
        ("TTFT p50", "ttft_p50_ms"),
        ("TTFT p95", "ttft_p95_ms"),
        ("ITL p95", "itl_p95_ms"),
    ):
        (old, old_text), (new, new_text) = shown(before, pick), shown(after, pick)
        change = f"{new / old:.2f} times" if old and new else "-"
        rows.append((name, old_text, new_text, change))
    return rows


def changed_knobs(result: Result) -> list[tuple[str, str, str]]:
    """(knob, before, after) of what Trimtab changed."""
    before, after = result.config_before, result.config_after
    default = "the engine's default"
    return [
        (knob, str(before.get(knob, default)), str(after.get(knob, default)))
        for knob in sorted({*before, *after})
        if before.get(knob) != after.get(knob)
    ]


def write(result: Result, story: Story, picture: Path, path: Path) -> None:
    """Writes the page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    encoded = base64.b64encode(picture.read_bytes()).decode() if picture.exists() else ""
    page = environment.get_template("report.html.j2").render(
        result=result,
        checks=result.checks(),
        story=story,
        comparison=comparison(result.baseline, result.tuned),
        knobs=changed_knobs(result),
        picture=encoded,
    )
    path.write_text(page, encoding="utf-8")

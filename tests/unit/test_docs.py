"""The documents agree with the code: reasons, requirements, links, paths, lengths of lines."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from trimtab.analyse.detectors import DETECTORS
from trimtab.cli.main import app
from trimtab.model.bottleneck import BottleneckKind
from trimtab.model.reason import Reason

REPOSITORY = Path(__file__).resolve().parents[2]
RUNBOOK = REPOSITORY / "docs" / "runbook"
GENERATED = REPOSITORY / "docs" / "reference"
# How many capabilities each family of requirements has.
REQUIREMENTS = {"E": 10, "M": 19, "T": 13, "S": 10, "R": 10}
LONGEST_LINE = 120


@cache
def _tracked() -> tuple[Path, ...]:
    """The files of the checkout that are, or are about to be, in the repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False)
    names = done.stdout.decode().split("\0") if done.returncode == 0 else []
    found = [REPOSITORY / name for name in names if name]
    return tuple(path for path in found or REPOSITORY.rglob("*") if path.is_file() and not path.is_symlink())


def _documents() -> list[Path]:
    return sorted(path for path in _tracked() if path.suffix == ".md")


def _ids(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def _without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def _anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, by the rule of the usual forges."""
    headings = re.findall(r"^#+ (.+)$", _without_code(path.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _links(path: Path) -> Iterator[str]:
    text = _without_code(path.read_text(encoding="utf-8"))
    yield from re.findall(r"\]\(([^)\s]+)\)", text)


def test_there_are_documents_to_look_at() -> None:
    names = {_ids(path) for path in _documents()}
    assert {"README.md", "CHANGELOG.md", "SECURITY.md", "docs/concepts.md", "docs/tutorial.md"} <= names


def test_every_reason_has_a_page_and_every_page_a_reason() -> None:
    pages = {path.stem for path in RUNBOOK.glob("*.md")} - {"README"}
    assert pages == {reason.value for reason in Reason}


@pytest.mark.parametrize("reason", list(Reason), ids=lambda reason: str(reason.value))
def test_a_runbook_page_says_what_it_means_what_to_check_and_the_way_out(reason: Reason) -> None:
    text = (RUNBOOK / f"{reason.value}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {reason.value}\n\n**Where it appears:** ")
    headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert [heading for heading in headings if heading != "Why"] == ["What it means", "What to check", "Way out"]
    for part in re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]:
        assert part.strip()


def test_the_index_of_the_runbook_has_each_reason_once() -> None:
    listed = Counter(re.findall(r"^\| \[(\w+)\]\(\1\.md\) \|", (RUNBOOK / "README.md").read_text(), flags=re.MULTILINE))
    assert listed == Counter(reason.value for reason in Reason)


def test_every_requirement_has_one_row_with_a_state() -> None:
    text = (REPOSITORY / "docs" / "requirements.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:3] != "|--"]
    found = [row for row in rows if re.fullmatch(r"[EMTSR]\d+", row[0])]
    expected = [f"{family}{number}" for family, count in REQUIREMENTS.items() for number in range(1, count + 1)]
    assert sorted(row[0] for row in found) == sorted(expected)
    for number, capability, room, test, state in found:
        assert capability and room, number
        assert state in ("done", "partly", "not yet"), number
        assert state == "not yet" or test, f"{number} names no test"


def test_every_requirement_that_is_partly_done_says_what_is_missing() -> None:
    text = (REPOSITORY / "docs" / "requirements.md").read_text(encoding="utf-8")
    partly = re.findall(r"^\| ([EMTSR]\d+) \|.*\| partly \|$", text, flags=re.MULTILINE)
    assert re.findall(r"^- \*\*([EMTSR]\d+)\*\*: ", text, flags=re.MULTILINE) == partly


def test_tests_that_a_requirement_names_exist() -> None:
    text = (REPOSITORY / "docs" / "requirements.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/]+)`", text))
    assert named
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


@pytest.mark.parametrize("path", _documents(), ids=_ids)
def test_relative_links_lead_somewhere(path: Path) -> None:
    broken = []
    for link in _links(path):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("path", [path for path in _documents() if GENERATED not in path.parents], ids=_ids)
def test_lines_of_documents_are_not_too_long(path: Path) -> None:
    """A row of a table cannot be broken, so it may be longer."""
    text = _without_code(path.read_text(encoding="utf-8"))
    assert [line for line in text.splitlines() if len(line) > LONGEST_LINE and not line.startswith("|")] == []


def test_nothing_names_a_path_of_a_machine() -> None:
    """Homes and working directories of whoever built it; the pattern is put together so as not to match itself."""
    homes = "|".join(("/" + "root/", "/" + "work/", "/" + "Users/", "/" + "home/(?!user)"))
    pattern = re.compile(rf"(?<![\w.$}}/-])(?:{homes})")
    found = []
    for path in _tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{_ids(path)}: {match.group()}" for match in pattern.finditer(text)]
    assert found == []


def test_every_kind_of_finding_is_explained() -> None:
    text = (REPOSITORY / "docs" / "concepts.md").read_text(encoding="utf-8")
    assert [kind.value for kind in BottleneckKind if f"`{kind.value}`" not in text] == []
    assert {kind for kind, _ in DETECTORS} == set(BottleneckKind)


def test_every_verb_of_the_command_line_stands_in_the_readme() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    verbs = [
        command.name or (command.callback.__name__ if command.callback else "") for command in app.registered_commands
    ]
    assert [verb for verb in verbs if f"`trimtab {verb} " not in text] == []


def test_decisions_are_numbered_without_gaps_and_listed() -> None:
    folder = REPOSITORY / "docs" / "adr"
    names = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
    listed = re.findall(r"\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert listed == names
    for name in names:
        text = (folder / name).read_text(encoding="utf-8")
        assert text.startswith(f"# {int(name[:4])}. ")
        assert all(f"**{part}.**" in text for part in ("Context", "Decision", "Consequences")), name


def test_every_setting_is_documented() -> None:
    """The variables that the settings are read from, in the operator's README."""
    source = (REPOSITORY / "operator" / "trimtab" / "config.py").read_text(encoding="utf-8")
    text = (REPOSITORY / "operator" / "README.md").read_text(encoding="utf-8")
    assert [name for name in sorted(set(re.findall(r"\"(TRIMTAB_[A-Z_]+)\"", source))) if f"`{name}`" not in text] == []

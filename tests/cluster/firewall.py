"""Finding and removing the packet filter chains that kube-proxy and the kubelet leave behind."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from tests.cluster.processes import SYSTEM_PATH

FAMILIES = ("iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy")
# KUBE-*: kube-proxy and the kubelet (its mark, hint and canary chains). CNI-*: the CNI plugins.
_OURS = re.compile(r"^(KUBE-|KUBELET-|CNI-)")


@dataclass(frozen=True)
class Table:
    """What of ours one table holds: whole chains, and rules in the kernel's own chains that jump to them."""

    name: str
    chains: tuple[str, ...]
    rules: tuple[str, ...]


def parse_save(text: str) -> list[Table]:
    """Reads the output of `iptables-save`; gives only the tables that hold something of ours."""
    tables: list[Table] = []
    name, chains, rules = "", [], []  # type: ignore[var-annotated]
    for line in text.splitlines():
        if line.startswith("*"):
            name, chains, rules = line[1:].strip(), [], []
        elif line.startswith(":") and _OURS.match(line[1:]):
            chains.append(line[1:].split()[0])
        elif line.startswith("-A "):
            words = shlex.split(line)  # a comment is one word, whatever it holds
            target = next((words[i + 1] for i, word in enumerate(words[:-1]) if word in ("-j", "-g")), "")
            if not _OURS.match(words[1]) and _OURS.match(target):
                rules.append(line)
        elif line.strip() == "COMMIT" and (chains or rules):
            tables.append(Table(name, tuple(chains), tuple(rules)))
    return tables


def removal(tables: list[Table]) -> str:
    """Input for `iptables-restore --noflush` that removes exactly what parse_save found."""
    lines: list[str] = []
    for table in tables:
        lines.append(f"*{table.name}")
        lines += [f":{chain} - [0:0]" for chain in table.chains]  # declaring a chain empties it
        lines += ["-D " + rule.removeprefix("-A ") for rule in table.rules]
        lines += [f"-X {chain}" for chain in table.chains]
        lines.append("COMMIT")
    return "\n".join(lines) + "\n" if lines else ""


def _run(program: str, stdin: str | None = None) -> subprocess.CompletedProcess[str] | None:
    words = program.split()
    try:
        return subprocess.run(
            words, input=stdin, capture_output=True, text=True, check=False, env={"PATH": SYSTEM_PATH}
        )
    except FileNotFoundError:
        return None


def find() -> Mapping[str, list[Table]]:
    """What of ours each packet filter on this machine holds; families without anything are left out."""
    found: dict[str, list[Table]] = {}
    for family in FAMILIES:
        done = _run(f"{family}-save")
        if done is not None and done.returncode == 0 and (tables := parse_save(done.stdout)):
            found[family] = tables
    return found


def remove() -> None:
    """Removes every chain of ours and the rules that lead to them. What cannot be removed is found again by find()."""
    for family, tables in find().items():
        _run(f"{family}-restore --noflush", removal(tables))

"""`python -m trimtab.render.programs SOURCE...`: writes the texts of the programs from their sources."""

from __future__ import annotations

import ast
import sys
from pathlib import Path


def stripped(source: str) -> str:
    """The program without comments and docstrings: it stands in every pod, where only Python reads it."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def main(arguments: list[str]) -> int:
    for source in map(Path, arguments):
        target = Path(__file__).parent / f"{source.stem}.txt"
        target.write_text(stripped(source.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"{target.name} from {source}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

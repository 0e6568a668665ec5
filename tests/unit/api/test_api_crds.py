import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from trimtab.api import crds, reference
from trimtab.api.v1alpha1 import KNOBS, EngineKnobs

REPOSITORY = Path(__file__).resolve().parents[3]
SCHEMAS = {resource.kind: crds.crd(resource) for resource in crds.RESOURCES}


def nodes(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema inside a schema, with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from nodes(schema[name], f"{path}[]")


ALL = [
    (kind, path, node)
    for kind, document in SCHEMAS.items()
    for path, node in nodes(document["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
]
OF_A_RESOURCE = [(kind, path, node) for kind, path, node in ALL if path.startswith((".spec", ".status"))]


@pytest.mark.parametrize("folder", crds.FOLDERS)
def test_the_checked_in_files_are_what_the_models_say(folder: str) -> None:
    assert crds.main(["--check", str(REPOSITORY / folder)]) == 0


def test_a_file_that_differs_is_named_and_ends_the_check_with_an_error(tmp_path: Path) -> None:
    assert crds.main(["--write", str(tmp_path)]) == 0
    changed = tmp_path / "trimtab.dev_llmdeployments.yaml"
    changed.write_text(changed.read_text() + "# edited\n")
    command = [sys.executable, "-m", "trimtab.api.crds", "--check", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY / "operator")
    assert done.returncode == 1
    assert changed.name in done.stdout
    assert "optimizationplans" not in done.stdout


def test_schemas_are_structural() -> None:
    forbidden = {"$ref", "$defs", "oneOf", "allOf", "not", "title", "x-kubernetes-preserve-unknown-fields"}
    for kind, path, node in ALL:
        assert not forbidden & set(node), f"{kind}{path}"
        assert "type" in node or node.get("x-kubernetes-int-or-string"), f"{kind}{path}"
        assert not ("properties" in node and "additionalProperties" in node), f"{kind}{path}"


def test_every_text_list_and_map_is_bounded() -> None:
    for kind, path, node in OF_A_RESOURCE:
        where = f"{kind}{path}"
        if node.get("type") == "string":
            assert "maxLength" in node or "enum" in node, where
        elif node.get("type") == "array":
            assert "maxItems" in node, where
        elif node.get("type") == "object":
            assert node.get("properties") or "maxProperties" in node, where


def test_numbers_of_a_spec_are_bounded_integers() -> None:
    for kind, path, node in OF_A_RESOURCE:
        if path.startswith(".spec"):
            assert node.get("type") != "number", f"{kind}{path}"
        if node.get("type") == "integer":
            assert {"minimum", "maximum"} <= set(node), f"{kind}{path}"


def test_every_field_of_a_spec_below_the_top_is_described_or_a_word_that_kubernetes_users_know() -> None:
    knobs = dict(nodes(SCHEMAS["LLMDeployment"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]))
    config = knobs[".spec.engine.config"]["properties"]
    assert sorted(config) == list(KNOBS)
    assert all(node.get("description", "").endswith(".") for node in config.values())
    assert EngineKnobs.model_fields["max_num_seqs"].description


def test_status_has_no_defaults_so_that_what_is_left_out_stays_out() -> None:
    assert not [path for _, path, node in ALL if path.startswith(".status") and "default" in node]


def test_lists_of_keyed_things_are_merged_by_their_key() -> None:
    keyed = {
        (kind, path): node.get("x-kubernetes-list-map-keys")
        for kind, path, node in ALL
        if "x-kubernetes-list-map-keys" in node
    }
    assert keyed["LLMDeployment", ".status.conditions"] == ["type"]
    assert keyed["LLMDeployment", ".status.revisions"] == ["name"]
    assert keyed["LLMDeployment", ".spec.engine.env"] == ["name"]


def test_kubectl_shows_the_columns_that_the_design_names() -> None:
    version = SCHEMAS["LLMDeployment"]["spec"]["versions"][0]
    columns = {column["name"]: column.get("priority", 0) for column in version["additionalPrinterColumns"]}
    assert list(columns) == ["Model", "Engine", "Mode", "Phase", "SLO", "Bottleneck", "Plan", "Reason", "Age"]
    assert [name for name, priority in columns.items() if priority] == ["Reason"]
    assert set(version["subresources"]) == {"status", "scale"}


def test_the_reference_pages_are_what_the_models_say(tmp_path: Path) -> None:
    assert reference.main(["--check", str(REPOSITORY / "docs" / "reference")]) == 0
    assert reference.main([str(tmp_path)]) == 0
    page = tmp_path / "llmdeployment.md"
    page.write_text(page.read_text() + "edited\n")
    assert reference.main(["--check", str(tmp_path)]) == 1


def test_the_reference_names_every_field_once_in_a_table_of_its_object() -> None:
    for name, text in reference.pages().items():
        headings = [line for line in text.splitlines() if line.startswith("## ")]
        assert len(headings) == len(set(headings)), name
    text = reference.pages()["llmdeployment.md"]
    assert all(f"| `{knob}` |" in text for knob in KNOBS)

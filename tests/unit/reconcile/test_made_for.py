"""What an owned Deployment was made for, as its annotation says it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.reconcile.resources import owned
from trimtab.api.names import CONFIG_ANNOTATION, revision_name
from trimtab.model.config import EngineConfig
from trimtab.model.rollout import Stable
from trimtab.reconcile.workloads import made_for
from trimtab.render import deployment as deployment_of
from trimtab.render import template_hash

CONFIG = EngineConfig({"enforceEager": True, "kvCacheDtype": "fp8", "maxNumSeqs": 4})


def _made() -> tuple[dict[str, Any], str, str]:
    found = owned()
    template = template_hash(found)
    revision = revision_name(CONFIG, template)
    return deployment_of(found, revision, CONFIG, None, revision), revision, template


def test_a_deployment_says_which_configuration_it_was_made_for() -> None:
    made, revision, template = _made()
    assert made_for(made, revision, template) == Stable(revision, CONFIG, template)


def test_a_template_that_is_not_the_present_one_is_not_known() -> None:
    made, revision, _ = _made()
    assert made_for(made, revision, "another") == Stable(revision, CONFIG, "")


@pytest.mark.parametrize("annotation", ["", "maxNumSeqs", "[]", '{"maxNumSeqs": "many"}', '{"noKnob": 1}'])
def test_an_annotation_that_was_edited_is_not_believed(annotation: str) -> None:
    made, revision, template = _made()
    made["metadata"]["annotations"][CONFIG_ANNOTATION] = annotation
    assert made_for(made, revision, template) is None
    del made["metadata"]["annotations"]
    assert made_for(made, revision, template) is None

"""Names, labels and annotations of everything that Trimtab makes: the only place where they are spelled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from trimtab.api.v1alpha1 import API_VERSION, PAUSED, ROLLBACK
from trimtab.model.config import EngineConfig, content_hash

FIELD_MANAGER = "trimtab"
LIVE_MANAGER = "trimtab-live"
MANAGED_BY = "app.kubernetes.io/managed-by"
APP_NAME = "app.kubernetes.io/name"
DEPLOYMENT_LABEL = "trimtab.dev/deployment"
REVISION_LABEL = "trimtab.dev/revision"
CONFIG_ANNOTATION = "trimtab.dev/config"  # the revision's configuration as JSON, on its Deployment
LIVE_ANNOTATION = "trimtab.dev/live"  # the settings that a pod's engine takes while it runs, on the pod
RUNS_ANNOTATION = "trimtab.dev/runs"  # the revision whose settings these are
ENGINE_CONTAINER = "engine"
PORT_NAME = "http"
PAUSED_ANNOTATION = PAUSED
ROLLBACK_ANNOTATION = ROLLBACK

LONGEST = 63
_CUT_HASH = 8
_ID_DIGITS = 13  # 52 bits


def fitted(name: str, suffix: str = "") -> str:
    """`name` or `name-suffix`, a DNS label of at most 63 characters.

    A name that is too long, or holds the dots that a label may not have, is cut and told apart by a hash of the whole.
    """
    tail = f"-{suffix}" if suffix else ""
    plain = name.replace(".", "-")
    if plain == name and len(name) + len(tail) <= LONGEST:
        return name + tail
    digest = hashlib.sha256(name.encode()).hexdigest()[:_CUT_HASH]
    kept = plain[: LONGEST - len(tail) - _CUT_HASH - 1].rstrip("-")
    return f"{kept}-{digest}{tail}"


def revision_name(config: EngineConfig, template: str) -> str:
    """The name of a revision: the hash of its configuration and of all else that its pods are made from."""
    return content_hash(config, template)


def settings_id(revision: str) -> int:
    """The number by which an engine shows that it has the settings of this revision in force: fits into a double."""
    return int(hashlib.sha256(revision.encode()).hexdigest()[:_ID_DIGITS], 16)


def workload_name(base: str, revision: str) -> str:
    """The Deployment of a revision; `base` is the LLMDeployment, or the workload that it adopted."""
    return fitted(base, revision)


def service_name(deployment: str) -> str:
    """The Service over all revisions."""
    return fitted(deployment)


def route_service_names(deployment: str) -> tuple[str, str]:
    """The Services of stable and of the canary, where a route shares the traffic by weight."""
    return fitted(deployment, "stable"), fitted(deployment, "canary")


def selector_labels(deployment: str) -> dict[str, str]:
    """What all pods of one LLMDeployment share, and what the Service selects by."""
    return {DEPLOYMENT_LABEL: deployment}


def revision_labels(deployment: str, revision: str) -> dict[str, str]:
    """The labels of one revision's workload and pods."""
    return {
        APP_NAME: deployment,
        MANAGED_BY: FIELD_MANAGER,
        DEPLOYMENT_LABEL: deployment,
        REVISION_LABEL: revision,
    }


def selector_text(labels: Mapping[str, str]) -> str:
    """Labels as the text of a selector, in a fixed order."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def owner_reference(name: str, uid: str) -> dict[str, Any]:
    """What makes an object go when its LLMDeployment goes."""
    return {
        "apiVersion": API_VERSION,
        "kind": "LLMDeployment",
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }

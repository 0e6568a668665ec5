"""What running pods take: the settings of an engine with live knobs, which it watches as a file.

The text is an annotation of the pod, mounted by the downward API. So each pod has settings of its own, a change is one
patch of one pod, and the kubelet writes the file as soon as it sees the pod change: a ConfigMap would be the same for
all pods of a workload, and up to a minute and a half late.
"""

from __future__ import annotations

import json
from typing import Any

from trimtab.api import names
from trimtab.catalogue import EngineCatalogue
from trimtab.model.config import EngineConfig
from trimtab.render.engines import LIVE_FILE, LIVE_FOLDER

_VOLUME = "trimtab-live"


def live_annotations(catalogue: EngineCatalogue, version: str, revision: str, config: EngineConfig) -> dict[str, str]:
    """The settings of a revision for its pods; empty for an engine that has no live knobs.

    They are the whole of the limits: one that `config` does not set is as the engine was started.
    """
    if not catalogue.live_knobs(version):
        return {}
    document = {"id": names.settings_id(revision), "limits": catalogue.live_limits(version, config)}
    return {
        names.LIVE_ANNOTATION: json.dumps(document, sort_keys=True),
        names.RUNS_ANNOTATION: revision,
    }


def live_volumes(catalogue: EngineCatalogue, version: str) -> list[dict[str, Any]]:
    """The volume that shows the annotation as a file."""
    if not catalogue.live_knobs(version):
        return []
    field = {"fieldPath": f"metadata.annotations['{names.LIVE_ANNOTATION}']"}
    return [{"name": _VOLUME, "downwardAPI": {"items": [{"path": LIVE_FILE, "fieldRef": field}]}}]


def live_mounts(catalogue: EngineCatalogue, version: str) -> list[dict[str, Any]]:
    """Mounted as a folder: a file that is mounted by itself never changes."""
    if not catalogue.live_knobs(version):
        return []
    return [{"name": _VOLUME, "mountPath": LIVE_FOLDER, "readOnly": True}]

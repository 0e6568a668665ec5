"""The parts of a pod that a resource may set: an allow-list, because whoever writes it need not administer the cluster.

There is no host path, no host network, no privilege and no service account in it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from trimtab.api.v1alpha1.base import (
    ApiModel,
    Count,
    Flag,
    Label,
    Line,
    Name,
    Path,
    Quantity,
    UserId,
    Word,
    exactly_one,
    list_map,
    rules,
)

Env = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Key = Annotated[str, StringConstraints(max_length=317)]
LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")]

_OURS = "!k.startsWith('trimtab.dev/') && !k.startsWith('app.kubernetes.io/')"


class KeyRef(ApiModel):
    """One key of a Secret or a ConfigMap in the same namespace; read by the kubelet, never by the operator."""

    name: Name
    key: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    optional: Flag | None = None


class FieldRef(ApiModel):
    """A field of the pod itself, such as status.podIP."""

    field_path: Annotated[str, StringConstraints(min_length=1, max_length=253)]


class EnvSource(ApiModel):
    """Where the value of an environment variable comes from."""

    model_config = rules(exactly_one("secretKeyRef", "configMapKeyRef", "fieldRef"))
    secret_key_ref: KeyRef | None = None
    config_map_key_ref: KeyRef | None = None
    field_ref: FieldRef | None = None


class EnvVar(ApiModel):
    """One environment variable of the engine."""

    model_config = rules(("!(has(self.value) && has(self.valueFrom))", "value and valueFrom exclude each other"))
    name: Env
    value: Annotated[str, StringConstraints(max_length=8192)] | None = None
    value_from: EnvSource | None = None


class Resources(ApiModel):
    """CPU and memory of one engine pod; the accelerator stands in `accelerator`."""

    requests: Annotated[dict[str, Quantity], Field(max_length=16)] | None = None
    limits: Annotated[dict[str, Quantity], Field(max_length=16)] | None = None


class TolerationOperator(StrEnum):
    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(ApiModel):
    """As in a pod."""

    key: Key | None = None
    operator: TolerationOperator | None = None
    value: LabelValue | None = None
    effect: TaintEffect | None = None
    toleration_seconds: Count | None = None


class ClaimVolume(ApiModel):
    """A PersistentVolumeClaim in the same namespace."""

    claim_name: Name
    read_only: Flag | None = None


class Medium(StrEnum):
    DISK = ""
    MEMORY = "Memory"


class EmptyDirVolume(ApiModel):
    """Space that lives as long as the pod."""

    medium: Medium | None = None
    size_limit: Quantity | None = None


class KeyToPath(ApiModel):
    """One key of a ConfigMap as a file."""

    key: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    path: Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class ConfigMapVolume(ApiModel):
    """A ConfigMap in the same namespace as files."""

    name: Name
    items: Annotated[tuple[KeyToPath, ...], Field(max_length=64)] | None = None
    optional: Flag | None = None


class Volume(ApiModel):
    """A claim, an empty directory or a ConfigMap."""

    model_config = rules(
        exactly_one("persistentVolumeClaim", "emptyDir", "configMap"),
        ("!self.name.startsWith('trimtab-')", "names that begin with trimtab- are Trimtab's own", ".name"),
    )
    name: Label
    persistent_volume_claim: ClaimVolume | None = None
    empty_dir: EmptyDirVolume | None = None
    config_map: ConfigMapVolume | None = None


class VolumeMount(ApiModel):
    """Where a volume is seen in the engine's container."""

    name: Label
    mount_path: Path
    read_only: Flag | None = None
    sub_path: Line | None = None


class User(ApiModel):
    """The user of the engine's process; never root."""

    run_as_user: UserId = 65532
    run_as_group: UserId = 65532
    fs_group: UserId | None = None


class PullSecret(ApiModel):
    """A Secret with credentials of the image's registry; read by the kubelet, never by the operator."""

    name: Name


class Pod(ApiModel):
    """What else the engine's pods need."""

    model_config = rules(
        (
            "!has(self.volumeMounts) || self.volumeMounts.all(m, "
            "has(self.volumes) && self.volumes.exists(v, v.name == m.name))",
            "each entry of volumeMounts must name an entry of volumes",
            ".volumeMounts",
        ),
        (
            f"!has(self.labels) || self.labels.all(k, {_OURS})",
            "labels of trimtab.dev and app.kubernetes.io are set by Trimtab",
            ".labels",
        ),
        (
            "!has(self.annotations) || self.annotations.all(k, !k.startsWith('trimtab.dev/'))",
            "annotations of trimtab.dev are set by Trimtab",
            ".annotations",
        ),
    )
    node_selector: Annotated[dict[str, LabelValue], Field(max_length=32)] | None = None
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] | None = None
    volumes: Annotated[tuple[Volume, ...], Field(max_length=16, json_schema_extra=list_map("name"))] | None = None
    volume_mounts: (
        Annotated[tuple[VolumeMount, ...], Field(max_length=32, json_schema_extra=list_map("mountPath"))] | None
    ) = None
    runtime_class_name: Name | None = None
    priority_class_name: Name | None = None
    image_pull_secrets: (
        Annotated[tuple[PullSecret, ...], Field(max_length=8, json_schema_extra=list_map("name"))] | None
    ) = None
    labels: Annotated[dict[str, LabelValue], Field(max_length=32)] | None = None
    annotations: (
        Annotated[dict[str, Annotated[str, StringConstraints(max_length=4096)]], Field(max_length=32)] | None
    ) = None
    user: User = User()


class Accelerator(ApiModel):
    """The accelerators of one engine pod."""

    resource_name: Annotated[
        str,
        StringConstraints(
            min_length=3, max_length=317, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9][-A-Za-z0-9_.]*$"
        ),
    ] = "nvidia.com/gpu"
    """The extended resource that a node advertises."""
    count: Annotated[int, Field(strict=True, ge=1, le=1024)] = 1
    """How many one pod gets."""
    type: Word | None = None
    """What it is, such as H100: planning looks it up."""

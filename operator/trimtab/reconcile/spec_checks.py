"""Is there something to work on? A chain of named checks on a spec that the API server has admitted.

Each check returns a Problem or None; the first problem becomes the condition Ready=False, with the way out in its
message, and nothing is written but the status: pods that serve go on serving.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.catalogue import CatalogueError, EngineCatalogue
from trimtab.model.reason import Reason
from trimtab.reconcile.shape import shape_problem
from trimtab.reconcile.windows import zone_of


@dataclass(frozen=True, slots=True)
class Problem:
    """Why nothing can be done for a resource."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Subject:
    """Everything that the checks look at."""

    deployment: LLMDeployment
    engine: EngineCatalogue | None
    engines: tuple[str, ...]  # the names that the catalogue knows
    target: Mapping[str, Any] | None  # the adopted Deployment
    siblings: Sequence[Mapping[str, Any]]  # the LLMDeployments of the namespace that have a targetRef


Check = Callable[[Subject], Problem | None]


def engine_is_known(subject: Subject) -> Problem | None:
    if subject.engine is not None:
        return None
    return Problem(
        Reason.UNKNOWN_ENGINE,
        f"spec.engine.name is {subject.deployment.spec.engine.name!r}, which is not in the catalogue; "
        f"set it to one of {', '.join(subject.engines)}.",
    )


def engine_version_is_supported(subject: Subject) -> Problem | None:
    version = subject.deployment.spec.engine.version
    if subject.engine is None or subject.engine.supports(version):
        return None
    return Problem(
        Reason.UNSUPPORTED_ENGINE_VERSION,
        f"spec.engine.version is {version!r}; the catalogue has no flags for this version of "
        f"{subject.deployment.spec.engine.name}. Set it to the version that the image really holds.",
    )


def configuration_can_be_expressed(subject: Subject) -> Problem | None:
    """What has no flag is refused here; a value that only the engine can refuse is left to a canary."""
    if subject.engine is None:
        return None
    engine = subject.deployment.spec.engine
    try:
        subject.engine.flags(engine.version, engine.config.to_config())
    except CatalogueError as error:
        return Problem(Reason.INVALID_SPEC, f"spec.engine.config: {error}")
    return None


def model_can_be_read(subject: Subject) -> Problem | None:
    wrong = shape_problem(subject.deployment)
    return None if wrong is None else Problem(Reason.INVALID_SPEC, f"spec.model.configJson: {wrong}")


def target_exists(subject: Subject) -> Problem | None:
    reference = subject.deployment.spec.target_ref
    if reference is None or subject.target is not None:
        return None
    return Problem(
        Reason.TARGET_NOT_FOUND,
        f"spec.targetRef names the Deployment {reference.name!r}, which is not in the namespace "
        f"{subject.deployment.metadata.namespace!r}. Create it, or make a new LLMDeployment for the right one.",
    )


def target_has_the_container(subject: Subject) -> Problem | None:
    reference = subject.deployment.spec.target_ref
    if reference is None or subject.target is None:
        return None
    containers = [item["name"] for item in subject.target["spec"]["template"]["spec"]["containers"]]
    if reference.container in containers:
        return None
    return Problem(
        Reason.TARGET_NOT_FOUND,
        f"spec.targetRef.container is {reference.container!r}, but the Deployment {reference.name!r} has the "
        f"containers {', '.join(containers)}. Name the one that runs the engine.",
    )


def target_is_not_shared(subject: Subject) -> Problem | None:
    """Of two LLMDeployments on one target the older works, then the one with the smaller uid; the younger says so."""
    me = subject.deployment
    if me.spec.target_ref is None:
        return None
    mine = (me.metadata.creation_timestamp or "", me.metadata.uid)
    for other in subject.siblings:
        metadata = other["metadata"]
        reference = (other.get("spec") or {}).get("targetRef") or {}
        if metadata["uid"] == me.metadata.uid or reference.get("name") != me.spec.target_ref.name:
            continue
        if (metadata.get("creationTimestamp") or "", metadata["uid"]) < mine:
            return Problem(
                Reason.TARGET_CONFLICT,
                f"The Deployment {me.spec.target_ref.name!r} is already tuned by the LLMDeployment "
                f"{metadata['name']!r}, which is older. Delete one of the two.",
            )
    return None


def target_is_not_ours(subject: Subject) -> Problem | None:
    """A Deployment that an LLMDeployment owns cannot be adopted by another one."""
    owners = ((subject.target or {}).get("metadata") or {}).get("ownerReferences") or []
    for owner in owners:
        if owner.get("kind") == "LLMDeployment":
            return Problem(
                Reason.TARGET_CONFLICT,
                f"The Deployment {(subject.target or {})['metadata']['name']!r} belongs to the LLMDeployment "
                f"{owner['name']!r}, which manages it already. Point spec.targetRef at a Deployment of your own.",
            )
    return None


def windows_can_open(subject: Subject) -> Problem | None:
    """Whether a time zone exists is not known at admission: it is the database of this machine that counts."""
    for window in subject.deployment.spec.tuning.windows or ():
        if zone_of(window) is None:
            return Problem(
                Reason.INVALID_SPEC,
                f"spec.tuning.windows: there is no time zone {window.time_zone!r}, so the window never opens. "
                "Use a name of the time zone database, like Europe/Berlin, or UTC.",
            )
    return None


CHECKS: tuple[Check, ...] = (
    engine_is_known,
    engine_version_is_supported,
    configuration_can_be_expressed,
    model_can_be_read,
    windows_can_open,
    target_exists,
    target_has_the_container,
    target_is_not_shared,
    target_is_not_ours,
)


def problem_of(subject: Subject) -> Problem | None:
    """The first problem, or None when the resource can be worked on."""
    for check in CHECKS:
        problem = check(subject)
        if problem is not None:
            return problem
    return None

"""Pure builders: from a resource, a revision and its configuration to manifests. Nothing here talks to a server."""

from trimtab.render.adopted import canary_of, engine_container, target_config, target_patch, target_template_hash
from trimtab.render.args import config_in, engine_args, flags_of, with_config, without_knobs
from trimtab.render.errors import RenderError
from trimtab.render.live import live_annotations
from trimtab.render.plans import export_patch, plan_object
from trimtab.render.pods import pod_template
from trimtab.render.routes import Backends, backends_of, route_services, weigh
from trimtab.render.workloads import catalogue_of, deployment, service, template_hash

__all__ = [
    "Backends",
    "RenderError",
    "backends_of",
    "canary_of",
    "catalogue_of",
    "config_in",
    "deployment",
    "engine_args",
    "engine_container",
    "export_patch",
    "flags_of",
    "live_annotations",
    "plan_object",
    "pod_template",
    "route_services",
    "service",
    "target_config",
    "target_patch",
    "target_template_hash",
    "template_hash",
    "weigh",
    "with_config",
    "without_knobs",
]

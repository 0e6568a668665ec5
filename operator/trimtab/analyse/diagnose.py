"""The diagnosis of one deployment: signals, then the SLO, then every detector."""

from __future__ import annotations

from dataclasses import replace

from trimtab.analyse.detectors import DETECTORS
from trimtab.analyse.signals import Limits, derive
from trimtab.analyse.slo import error_share, evaluate, verdict
from trimtab.model.bottleneck import Health
from trimtab.model.reading import Unknown
from trimtab.model.slo import Slo
from trimtab.model.snapshot import Snapshot


def diagnose(snapshot: Snapshot, slo: Slo, stable: str, limits: Limits) -> Health:
    """What is wrong with revision `stable`, worst first, and whether the SLO is met.

    With unreadable metrics only what the API server itself says (containers killed for memory) can be a finding, and
    the SLO state is None.
    """
    pods = () if isinstance(snapshot.metrics, Unknown) else snapshot.revision(stable).ready_pods
    signals = derive(snapshot, slo, stable, limits)
    targets = evaluate(pods, slo)
    errors = error_share(pods)
    met = verdict(targets, slo, errors, signals.output_token_rate, signals.waiting)
    signals = replace(signals, targets=targets, error_share=errors, slo_met=met)
    found = [finding for _, detect in DETECTORS if (finding := detect(signals)) is not None]
    found.sort(key=lambda finding: (-finding.severity, -finding.confidence, finding.kind))
    return Health(bottlenecks=tuple(found), targets=targets, error_share=errors, slo_met=met)

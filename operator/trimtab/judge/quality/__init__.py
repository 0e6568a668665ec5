"""The quality gate's judgement: probe sets, and whether a canary's outputs are within the budget."""

from trimtab.judge.quality.compare import Question, judge_quality
from trimtab.judge.quality.neutral import NEUTRAL
from trimtab.judge.quality.probes import Unusable, parse_probes

__all__ = ["NEUTRAL", "Question", "Unusable", "judge_quality", "parse_probes"]

"""The sequential judge: looked at after every interval, it says Good or Bad as soon as the evidence suffices."""

from trimtab.judge.sequential.judge import judge_history
from trimtab.judge.sequential.policy import Policy

__all__ = ["Policy", "judge_history"]

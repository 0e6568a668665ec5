"""The quality gate's shell: what can be compared, and the comparison itself, which runs beside the cycles."""

from trimtab.reconcile.quality.gate import Gate, read_gate
from trimtab.reconcile.quality.measuring import Comparison, Comparisons
from trimtab.reconcile.quality.outputs import Outputs, outputs_of

__all__ = ["Comparison", "Comparisons", "Gate", "Outputs", "outputs_of", "read_gate"]

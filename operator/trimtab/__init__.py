"""Trimtab: a Kubernetes operator that tunes LLM serving while it runs. `operator/README.md` is the map of the rooms."""

__version__ = "0.1.0"

"""GPUs: how a model is spread over them, what NVML reads of each, how each fares, and what follows when one fails.

All of it is pure but `nvml`, a small program of its own and the only one that imports the NVML bindings.
"""

"""Reads the world: engine metrics from Prometheus, pods, workloads and GPUs from the API server's objects."""

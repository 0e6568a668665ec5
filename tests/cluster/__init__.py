"""A real Kubernetes cluster on one Debian machine, without Docker, for the demo and the tests (see README.md)."""

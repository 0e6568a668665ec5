"""The resources as Kubernetes knows them: pydantic models, their CRDs, names, conditions, and the way to `model`."""

"""A real Alertmanager for tests: built from its Go module, kept in the cache by the hash of what went in."""

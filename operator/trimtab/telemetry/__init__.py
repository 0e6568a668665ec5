"""What the operator tells about itself: Prometheus metrics, health, JSON logs, traces. None of it can stop a reconcile."""

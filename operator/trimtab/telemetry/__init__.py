"""What the operator tells about itself: Prometheus metrics, health, JSON logs, traces; none of it stops a reconcile."""

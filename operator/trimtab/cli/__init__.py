"""`trimtab`, also as `kubectl trimtab`: explains, compares, approves, pauses, rolls back, and diagnoses one engine."""

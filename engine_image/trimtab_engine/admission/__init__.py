"""Whether a request may come in: from the load and the limits, with a reason and a time to come back. Pure."""

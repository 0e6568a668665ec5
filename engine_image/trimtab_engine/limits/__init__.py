"""What may change while the engine serves: the limits, what bounds them, and how a document becomes limits. Pure."""

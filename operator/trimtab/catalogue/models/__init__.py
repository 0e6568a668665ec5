"""Model families: the shapes of well-known models, and of any other from its config.json."""

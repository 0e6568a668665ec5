"""Small models that are made here, not downloaded."""

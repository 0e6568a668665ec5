"""One file per phase: `advance` decides whether it moves on, `actions` lists all that should exist meanwhile."""

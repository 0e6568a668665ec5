"""The configuration of the server: its fields, their defaults, and where their values come from. Pure."""

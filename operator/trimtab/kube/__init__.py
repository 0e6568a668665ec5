"""The only room that talks to the API server: verbs, leader election, events."""

"""`make soak`: our server at 80 % load for long, everything on: does its memory grow, and is any request lost."""

"""`make bench-engine`: our server beside others on one machine, each row as a ratio measured in turns."""

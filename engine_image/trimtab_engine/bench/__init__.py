"""`trimtab-engine bench`: measure a server, compare two results, try optimizations one by one.

`result`, `compare`, `ladder` decide and compute (pure); `measure` sends the load, `server` knows the server at hand,
`table` and `plot` show, `sweep` changes and takes back, `program` is the command line.
"""

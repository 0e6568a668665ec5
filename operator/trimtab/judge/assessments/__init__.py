"""One assessment a file: each looks at one thing and returns its verdict, or None where there is nothing to assess."""

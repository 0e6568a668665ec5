"""One check a file: each looks at one thing and yields its verdicts, none where there is nothing to look at."""

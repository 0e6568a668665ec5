"""Answers to questions that were asked before in other words.

`question` says whether a request may be answered so, and what of it must be the same (pure); `answer` what may be kept
(pure); `embed` makes vectors of texts; `shelf` finds the nearest one, `shelves` keeps them in bounds; `store` and
`redis` hold the answers; `cache` puts them together. Libraries are imported when a cache is made.
"""

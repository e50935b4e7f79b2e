"""Where edits come from: the data sets of the paper, its benchmarks, other packages, and one's own files.

A declared source has a schema (which of its columns is what) and rows (parquet, Arrow, tar, tables of
paths, folder layouts, the Hub); a registered one gives samples itself. What comes out is the same
everywhere: a `Sample`. Nothing is fetched from the Hub unless the caller names it. No torch here.
"""

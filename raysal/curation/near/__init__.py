"""Near-duplicates of a pool.

Rows are compared in a `unit` of them, in the order of `cells` around centroids, whose planes rule most pairs out; what
is left goes through a `screen`. `pairs` lists the near pairs of two units, `nearest` finds the nearest row, `settling`
who is kept of one unit. `reading` makes units of a pool.

Who is kept of a whole pool is found in one of three ways. `job` lists all near pairs in a `folder`, from which
`keeping` chooses by `independent_set`. Where pairs are too many, `sieve` compares items with kept ones alone. And
`clusters` compares items that share a cell, by the tasks of `cell_tasks`; `placing` says which cells an item lies in.
The last two go on after an interruption by `going`. `against` finds what is near to an item of another pool, `recall`
counts what clusters missed, and `foreseen` says beforehand what it will cost.
"""

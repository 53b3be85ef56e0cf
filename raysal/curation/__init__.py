"""Curation: from all items of a pool to those that are worth keeping, by a plan of steps.

`base` says what a step is, `registry` lists them, and each is a file of `steps/`. `plan` reads a plan, `forecast` says
what it will do, `job` does it, `folder` stores what finished steps found, and `curated` is what became of the items.
What a step is made of lies in a folder: `near/`, `filtering/`, `tree/` (of `balance`), `core/`, and `labels/` (of
`check`). `dedup` and `label_check` are results with tables of their own, of `raysal dedup` and `raysal check`; `equal`,
`order` and `sizes` are shared by steps.
"""

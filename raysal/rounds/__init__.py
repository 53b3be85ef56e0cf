"""The rounds of a run: what is asked, in which order, and what of it is kept.

`session` is a run that is open, `loop` a whole run, `directory` the format of a run and its rounds. `choose` narrows
and selects, `learner` makes the next head, `stages` names the steps. `plan` says beforehand what a run would do,
`preflight` refuses what cannot work, `status` and `run_labels` read a run without a session.
"""

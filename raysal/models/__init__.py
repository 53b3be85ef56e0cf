"""The head: a linear model on frozen vectors with a posterior, fitted by trainers, updated in closed form.

`head` is the record, `likelihood` what labels are, `posterior` the structures of its uncertainty, `trainers` the fits,
`online` the updates, `optim` the solvers.
"""

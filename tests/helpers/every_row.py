"""The pool and the round of the tests of rules that look at every row after every pick."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from programs import context_of, random_head

from raysal.models.posterior import Shared

N, DIM = 400, 11


def task(rows, *, labelled=17, head=None, key=5, covariance=None):
    head = random_head(DIM) if head is None else head
    if covariance is not None:
        head = replace(head, posterior=Shared(root=np.linalg.cholesky(covariance + 1e-300 * np.eye(DIM + 1))))
    return context_of(head=head, labelled=rows[:: max(labelled, 1)] if labelled else rows[:0], key=key)

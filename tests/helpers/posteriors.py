"""Heads with a posterior of each structure and kind of label, and a round over a small pool."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference_information as slow
from programs import context_of, make_head, random_head

from raysal.models.likelihood import IDENTITY, LIKELIHOODS
from raysal.models.posterior import Diagonal, Full, Kronecker, Members, Shared

N, DIM, CLASSES = 300, 7, 3


def posterior_of(structure, width=DIM + 1, classes=CLASSES, seed=0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(width, width)) * np.logspace(0, -1, width) / 2
    if structure == "shared":
        return Shared(root=root)
    if structure == "diagonal":
        return Diagonal(precision=rng.uniform(2, 30, (classes, width)), prior=1.0)
    if structure == "kronecker":
        outputs = np.cov(rng.normal(size=(classes, 40))).reshape(classes, classes)
        return Kronecker(inputs=root @ root.T * 200, outputs=outputs, count=40.0, prior=3.0)
    if structure == "full":
        wide = rng.normal(size=(classes * width, classes * width)) / 9
        return Full(root=wide, classes=classes, prior=1.0)
    return Members(weights=rng.normal(size=(9, classes, width)) * 0.5)


every_structure = pytest.mark.parametrize("structure", ["shared", "diagonal", "kronecker", "full", "members"])


def head_of(structure="shared", link="softmax", **fields):
    return replace(random_head(DIM, CLASSES), posterior=posterior_of(structure), likelihood=LIKELIHOODS[link], **fields)


every_kind = pytest.mark.parametrize("link", ["softmax", "sigmoid"])


def questions(x, draws, link):
    return slow.drawn_labels(x, draws) if link == "sigmoid" else [slow.drawn_probabilities(x, draws)]


def number_head(structure="shared", noise=0.5):
    """One output that is a number."""
    head = make_head(np.random.default_rng(1).normal(size=(1, DIM)), np.zeros(1))
    return replace(head, posterior=posterior_of(structure, classes=1), likelihood=IDENTITY, noise=noise)


def task(head, key=5):
    return context_of(head=head, labelled=np.empty((0, DIM), np.float32), key=key)


def covariance_of(x, head):
    """[n, n] of the output, from what the structure says of sums of rows: all that it offers are variances."""
    rows = np.column_stack([x.astype(np.float64), np.ones(len(x))])
    of = head.posterior.variance().of
    own = of(rows)[:, 0]
    sums = of((rows[:, None] + rows[None]).reshape(-1, DIM + 1))[:, 0]
    return (sums.reshape(len(x), len(x)) - own[:, None] - own) / 2

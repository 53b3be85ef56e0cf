"""What users might write as `custom:user_trainers:NAME`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from raysal.models.head import Head
from raysal.models.likelihood import SIGMOID
from raysal.models.online.classes import add_classes
from raysal.models.online.update import update
from raysal.models.trainers.base import Context, TrainingData
from raysal.models.trainers.logistic import Logistic
from raysal.models.trainers.regression import Regression

CONTEXTS: list[Context] = []
"""What `remembering` was told, call by call."""


def centroids(features, labels, weights, *, classes, seed, context):
    """The nearest mean, as a linear rule."""
    means, sizes = np.zeros((len(classes), features.shape[1])), np.full(len(classes), 0.5)
    for place, name in enumerate(classes):
        mine = np.array([label == name for label in labels])
        if mine.any():
            means[place] = np.average(features[mine], axis=0, weights=weights[mine])
            sizes[place] += weights[mine].sum()
    return means, np.log(sizes) - 0.5 * (means**2).sum(axis=1)


def logistic_weights(features, labels, weights, *, classes, seed, context):
    """The weights of another trainer, without its posterior."""
    head = Logistic(l2=0.2).fit(
        TrainingData(features=features, labels=labels, weights=weights, classes=classes, seed=seed)
    )
    return head.weight, head.bias


def remembering(features, labels, weights, *, classes, seed, context):
    CONTEXTS.append(context)
    return centroids(features, labels, weights, classes=classes, seed=seed, context=context)


def a_head(features, labels, weights, *, classes, seed, context):
    """A head with a temperature and a prior of its own, and its classes backwards."""
    head = Logistic(l2=0.3).fit(
        TrainingData(
            features=features,
            labels=labels,
            weights=weights,
            classes=classes,
            encoder="mine",
            version=77,
            ledger_seq=77,
            seed=seed,
        )
    )
    back = head.mean[::-1]
    return replace(head, classes=head.classes[::-1], mean=back, linearised_at=back, temperature=2.0)


def joined(features, labels, weights, *, classes, seed, context):
    """A fit without the last class, which then joins."""
    old = np.array([label != classes[-1] for label in labels])
    names = np.array(labels)
    fields = {"encoder": "", "version": 0, "ledger_seq": 0, "seed": seed}
    head = Logistic(structure="diagonal").fit(
        TrainingData(
            features=features[old], labels=list(names[old]), weights=weights[old], classes=classes[:-1], **fields
        )
    )
    head = add_classes(head, [classes[-1]])
    return update(head, features[~old], list(names[~old]), weights[~old], ledger_seq=0)


def each_label(features, labels, weights, *, classes, seed, context):
    """For every label, towards the items that have it and away from the others."""
    has = np.array([[name in label.split("|") for name in classes] for label in labels]) * 2.0 - 1.0
    return (has * weights[:, None]).T @ features / len(features), has.mean(axis=0)


def a_number(features, labels, weights, *, classes, seed, context):
    fields = {"encoder": "", "version": 0, "ledger_seq": 0}
    return Regression(prior=0.5, noise=0.1).fit(
        TrainingData(features=features, labels=labels, weights=weights, classes=classes, seed=seed, **fields)
    )


def numbers(features, labels, weights, *, classes, seed, context):
    head = Head.of_weights(np.zeros((len(classes), features.shape[1])), np.zeros(len(classes)), classes=classes)
    return replace(head, likelihood=SIGMOID)


def narrow(features, labels, weights, *, classes, seed, context):
    return Head.of_weights(np.zeros((len(classes), 2)), np.zeros(len(classes)), classes=classes)


def others(features, labels, weights, *, classes, seed, context):
    return Head.of_weights(np.zeros((len(classes), features.shape[1])), np.zeros(len(classes)))


def nothing(features, labels, weights, *, classes, seed, context):
    return None


def three(features, labels, weights, *, classes, seed, context):
    return 1, 2, 3


def transposed(features, labels, weights, *, classes, seed, context):
    return np.zeros((features.shape[1], len(classes))), np.zeros(len(classes))


def a_short_bias(features, labels, weights, *, classes, seed, context):
    return np.zeros((len(classes), features.shape[1])), np.zeros(1)


def a_nan(features, labels, weights, *, classes, seed, context):
    weight = np.zeros((len(classes), features.shape[1]))
    weight[1, 2] = np.nan
    return weight, np.zeros(len(classes))


def words(features, labels, weights, *, classes, seed, context):
    return [["a"] * features.shape[1]] * len(classes), np.zeros(len(classes))


def a_bug(features, labels, weights, *, classes, seed, context):
    return {}["weight"]


def scribbling(features, labels, weights, *, classes, seed, context):
    features *= 2
    return centroids(features, labels, weights, classes=classes, seed=seed, context=context)


NOT_CALLABLE = 3

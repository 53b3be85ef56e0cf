"""Gradients of a head by automatic differentiation, and their sketches by loops: slow, obvious, in full.

They share no code with the package except `raysal.rng`, whose draws are part of the definition.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.features import HiddenLayer
from raysal.models.head import Head
from raysal.rng import derive, generator

Floats = NDArray[np.float64]


def units(x: Floats, candidates: NDArray[np.int64], head: Head) -> tuple[Floats, float, float]:
    """Mean of the candidates' vectors [d], their root mean square distance from it, and the root mean square of a
    hidden feature of theirs."""
    mean = x[candidates].mean(0)
    length = math.sqrt(np.mean([((row - mean) ** 2).sum() for row in x[candidates]]))
    if head.hidden_layer is None:
        return mean, length, 1.0
    return mean, length, math.sqrt(np.mean([hidden_of(row, head.hidden_layer) ** 2 for row in x[candidates]]))


def hidden_of(row: Floats, layer: HiddenLayer) -> Floats:
    """Hidden features of a vector: rectified, and rounded to float16 as they are by definition."""
    return np.maximum(layer.weight @ row + layer.bias, 0).astype(np.float16).astype(np.float64)


def gradients(x: Floats, candidates: NDArray[np.int64], head: Head) -> Floats:
    """The gradient of every row [n, all weights and biases].

    It is that of a network of inputs of mean square length 1: centred vectors, and hidden features over the root of
    their number. What is differentiated is the output, for numbers; else the log-likelihood of what is predicted.
    """
    mean, length, level = units(x, candidates, head)
    layer = head.hidden_layer

    def leaf(values: Floats) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64, requires_grad=True)

    if layer is None:
        weights = [leaf(head.weight * length), leaf(head.bias + head.weight @ mean)]
    else:
        weights = [
            leaf(head.weight * level * math.sqrt(layer.dim)),
            leaf(head.bias),
            leaf(layer.weight * length / level),
            leaf((layer.weight @ mean + layer.bias) / level),
        ]
    found = []
    for row in (x - mean) / length:
        inputs = torch.tensor(row)
        if layer is not None:
            smooth = torch.relu(weights[2] @ inputs + weights[3])
            rounded = (smooth.detach() * level).half().double() / level
            inputs = (smooth + (rounded - smooth).detach()) / math.sqrt(layer.dim)  # rounding has no derivative
        outputs = weights[0] @ inputs + weights[1]
        if head.likelihood.name == "identity":
            value = outputs[0]
        elif head.likelihood.name == "softmax":
            value = torch.log_softmax(outputs, 0)[int(outputs.argmax())]
        else:
            value = torch.nn.functional.logsigmoid(torch.where(outputs.detach() >= 0, outputs, -outputs)).sum()
        found.append(torch.cat([g.reshape(-1) for g in torch.autograd.grad(value, weights)]).numpy())
    return np.array(found)


def sketches(x: Floats, candidates: NDArray[np.int64], head: Head, m: int, key: int) -> Floats:
    """The published sketch [n, m] of every gradient, number by number: sums over layers of (u_j input) (v_j derivative)
    / sqrt(m), with Gaussian u_j and v_j; without v_j where the derivative is the number 1."""
    mean, length, level = units(x, candidates, head)
    layer = head.hidden_layer

    def draws(place: int, side: str, width: int) -> Floats:
        return generator(derive(key, "sketch", place, side)).standard_normal((m, width))

    found = np.zeros((len(x), m))
    for i, row in enumerate(x):
        vector = np.append((row - mean) / length, 1.0)
        shown = row if layer is None else hidden_of(row, layer)
        outputs = head.weight @ shown + head.bias
        if head.likelihood.name == "identity":
            residual = np.ones(1)
        elif head.likelihood.name == "softmax":
            p = np.exp(outputs - outputs.max())
            residual = np.eye(len(p))[p.argmax()] - p / p.sum()
        else:
            residual = (outputs >= 0) - 1 / (1 + np.exp(-outputs))
        layers = [(vector, residual, head.likelihood.name == "identity")]
        if layer is not None:
            inputs = np.append(shown / (level * math.sqrt(layer.dim)), 1.0)
            layers = [(vector, level * (head.weight.T @ residual) * (shown > 0), False), (inputs, *layers[0][1:])]
        for place, (inputs, derivatives, plain) in enumerate(layers):
            u, v = draws(place, "inputs", len(inputs)), draws(place, "derivatives", len(derivatives))
            for j in range(m):
                found[i, j] += (u[j] @ inputs) * (1.0 if plain else v[j] @ derivatives) / math.sqrt(m)
    return found

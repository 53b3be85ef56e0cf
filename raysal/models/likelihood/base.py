"""A likelihood: what labels are, how outputs of a linear head predict them, and what a label costs the outputs.

Each likelihood is the natural one of an exponential family: the gradient of the loss in an output is response - target.
Arrays of outputs and targets are [n, C]; what runs beside the data is in `tensors`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysal.errors import LabelError
from raysal.models.likelihood.tensors import OnTensors
from raysal.models.measures import Evaluation
from raysal.models.targets import LARGEST, Answer

Floats = NDArray[np.float64]


class Column(NamedTuple):
    """A column of a table of predictions, one entry or one list of entries for each item."""

    values: NDArray[np.float32] | NDArray[np.int64]
    """float32 numbers, or int64 places of outputs, which are written as their names"""
    cuts: NDArray[np.int32] | None = None
    """[n + 1], for lists: that of item i is `values[cuts[i] : cuts[i + 1]]`"""


class Likelihood(OnTensors):
    """One kind of labels. Each kind has one instance, without fields: `LIKELIHOODS` lists them by name.

    A pickle of an instance is its name, so that it travels to other processes as the instance that is there.
    """

    name: ClassVar[str]
    """As files of heads, records and configs have it (`link`)."""
    discrete: ClassVar[bool]
    """Whether the answers are finitely many and named, so that a response is the probability of an answer. Names of
    new answers may then join a head."""
    exclusive: ClassVar[bool]
    """Whether an item has exactly one of the answers, so that its responses add up to 1."""
    quadratic: ClassVar[bool]
    """Whether the loss is half the squared error. A response is then the output itself, one Newton step of the mean is
    exact, and an average over the posterior is what the mean predicts. Heads then say the `noise` of labels."""
    strategies: ClassVar[str]
    """Strategies to suggest where one compares classes and cannot work with these labels."""
    example: ClassVar[tuple[tuple[str, ...], str]]
    """Names of outputs, and the text of a label of theirs."""

    def __reduce__(self) -> str:
        return self.name.upper()  # the module's constant of that name, which holds the one instance

    def __repr__(self) -> str:
        return self.name.upper()

    # The text of labels.

    @abstractmethod
    def names_in(self, text: str, where: str = "label") -> tuple[str, ...]:
        """The outputs that a label speaks of.

        Args:
            text: the label.
            where: names the item in an error.

        Returns:
            Its class; its labels, sorted; or `value`.

        Raises:
            LabelError: the text is no label of this kind.
        """

    @abstractmethod
    def plain(self, text: str, where: str = "label") -> str:
        """The one spelling of a label, so that annotators who mean the same write the same.

        Args:
            text: the label.
            where: names the item in an error.

        Returns:
            The label with its names sorted, or with `3.0` as `3`.

        Raises:
            LabelError: as `names_in`.
        """

    def shown(self, text: str) -> str:
        """A label as reports show it."""
        return text

    @abstractmethod
    def check_names(self, names: Sequence[str], where: str) -> None:
        """Refuse names that outputs cannot have.

        Args:
            names: of classes.
            where: names the field in an error.

        Raises:
            ConfigError: there cannot be a class of one of these names.
        """

    def output_names(self, classes: Sequence[str]) -> tuple[str, ...]:
        """The names of a head's outputs, for these classes.

        Args:
            classes: in any order, repeated or not.

        Returns:
            The names, sorted.

        Raises:
            ConfigError: one cannot be the name of a class.
        """
        self.check_names(sorted(classes), "classes")
        return tuple(sorted(set(classes)))

    @abstractmethod
    def shares(self, answer: Answer, where: str) -> dict[str, float]:
        """What an answer says of the outputs it names.

        Args:
            answer: a label, or shares of several.
            where: names the item in an error.

        Returns:
            The target of each output that is not 0: shares that add up to 1, a probability each, or the number.

        Raises:
            LabelError: a share is not a finite number of at least 0, or all are 0; or as `names_in`.
        """

    def targets(self, answers: Sequence[Answer], classes: Sequence[str]) -> Floats:
        """What the outputs should answer.

        Args:
            answers: [n]
            classes: [C] names of the outputs.

        Returns:
            The targets [n, C].

        Raises:
            LabelError: an answer names none of `classes`; or as `shares`. It names the row.
        """
        position = {name: place for place, name in enumerate(classes)}
        found = np.zeros((len(answers), len(classes)))
        for row, answer in enumerate(answers):
            for name, share in self.shares(answer, f"row {row}").items():
                if name not in position:
                    listed = ", ".join(list(position)[:5]) + (" ..." if len(position) > 5 else "")
                    problem = f"label {name!r} is not one of the classes ({listed})"
                    raise LabelError(f"row {row}", problem, "add the class")
                found[row, position[name]] = share
        return found

    # Losses, and how they curve.

    @abstractmethod
    def responses(self, outputs: Floats) -> Floats:
        """What outputs [n, C] predict [n, C]: class probabilities, a probability for each label, or the numbers."""

    @abstractmethod
    def losses(self, outputs: Floats, targets: Floats) -> Floats:
        """What each item costs [n], given outputs and targets [n, C]: nats, or half the squared error."""

    def total_loss(self, outputs: Floats, targets: Floats, weights: Floats) -> float:
        """The summed `losses`, each times its weight [n]."""
        return float(self.losses(outputs, targets) @ weights)

    def target_mass(self, targets: Floats) -> Floats:
        """How much of a label each row of targets [n, C] is, [n, 1]: the sum of shares that exclude each other."""
        return np.ones((len(targets), 1))

    @abstractmethod
    def second_derivatives(self, responses: Floats) -> Floats:
        """The second derivatives [n, C] of each item's loss in each output, at these responses [n, C]."""

    def curvature_terms(self, responses: Floats, along: Floats) -> Floats:
        """The second derivative of each item's loss where its outputs move by `along` [n, C], as terms [n, C] that add
        up to it; at these responses [n, C]."""
        return np.asarray(self.second_derivatives(responses) * along**2)

    def hessian_roots(self, responses: Floats, weights: Floats) -> Floats:
        """Matrices S [n, C, C] with S Sᵀ the Hessian in the outputs, times the weight [n]; at responses [n, C]."""
        diagonal = self.second_derivatives(responses) * weights[:, None]
        return np.asarray(np.sqrt(diagonal)[:, :, None] * np.eye(responses.shape[1]))

    def hessian_sum(self, responses: Floats, weights: Floats) -> Floats:
        """The Hessians in the outputs, each times its weight [n], added up: [C, C]; at responses [n, C]."""
        return np.asarray(np.diag((self.second_derivatives(responses) * weights[:, None]).sum(axis=0)))

    @abstractmethod
    def confidence_weights(self, responses: Floats) -> Floats:
        """What each item counts for [n] in a covariance weighted by confidence, at responses [n, C]."""

    def with_joined(self, responses: Floats, odds: Floats) -> Floats:
        """The responses [n, C + m], after those of C outputs [n, C], once m outputs of these odds [n, m] joined."""
        return np.hstack([responses, odds / (1.0 + odds)])

    # Predictions.

    def centred(self, outputs: Floats) -> Floats:
        """Outputs [n, C] without what changes no response."""
        return outputs

    def mean_field(self, outputs: Floats, variance: Floats, factor: float) -> Floats:
        """The mean response [n, C] to Gaussian outputs of this mean [n, C] and variance [n, C] or [n, 1]; see
        `raysal.models.predictive.mean_field`."""
        return self.responses(outputs / np.sqrt(1.0 + factor * variance))

    @abstractmethod
    def entropy(self, responses: Floats) -> Floats | None:
        """Shannon entropy [n] in nats of the answer, at responses [n, C]: of the class, or summed over the labels; None
        where answers are not finitely many."""

    @abstractmethod
    def groups(self, targets: Floats) -> NDArray[np.int64]:
        """A number [n] for each row of targets [n, C], the same for those that folds should share out evenly."""

    @abstractmethod
    def texts(self, responses: Floats, classes: Sequence[str]) -> list[str]:
        """The label, as text, that responses [n, C] hold most probable of each item; ties go to the first class."""

    @abstractmethod
    def columns(self, responses: Floats, variance: Floats, noise: float) -> dict[str, Column]:
        """The columns by which a prediction is reported.

        Args:
            responses: [n, C]
            variance: [n, 1] or [n, C] of the outputs, 0 where nobody asked for it.
            noise: the variance of a label around its prediction, where labels are numbers.

        Returns:
            By name, the answer that is predicted and how sure it is.
        """

    @abstractmethod
    def judge(
        self, classes: Sequence[str], outputs: Floats, answers: Sequence[str], variance: Floats | None = None
    ) -> Evaluation:
        """How outputs do against true answers.

        Args:
            classes: [C] names of the outputs.
            outputs: [n, C], over the temperature.
            answers: [n] labels, of classes that the head may not know.
            variance: [n, 1] of a label around its prediction, where labels are numbers; 1 unless given.

        Returns:
            The measures that suit this kind of labels.

        Raises:
            LabelError: as `names_in`.
        """


def checked_shares(shares: Answer, where: str) -> dict[str, float]:
    """Shares of several labels, each a finite number of at least 0.

    Raises:
        LabelError: one is not.
    """
    assert not isinstance(shares, str)
    found = {str(name): float(share) for name, share in shares.items()}
    if not all(0 <= share <= LARGEST for share in found.values()):
        raise LabelError(where, f"shares {found} hold one that is not a number of at least 0", "mend it")
    return found


def total_of(shares: dict[str, float], where: str) -> float:
    """The sum of shares.

    Raises:
        LabelError: it is 0.
    """
    total = sum(shares.values())
    if total == 0:
        raise LabelError(where, "its shares are all 0", "leave the item out")
    return total


def shannon(probabilities: Floats) -> Floats:
    """Shannon entropy [n] in nats of probabilities [n, C]."""
    logs = np.log(np.where(probabilities > 0, probabilities, 1.0))
    return np.asarray(-(probabilities * logs).sum(1))

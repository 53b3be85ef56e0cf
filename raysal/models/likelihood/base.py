"""A likelihood: what labels are, how the outputs of a linear head predict them, and what loss a label causes.

Each likelihood is that of an exponential family with its natural parameter as the output. The gradient of the loss in
an output is therefore response - target. Arrays of outputs and targets are [n, C], C outputs for n items. What runs
beside the data is in `tensors`.
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
    """A column of a table of predictions: one entry, or one list of entries, for each item."""

    values: NDArray[np.float32] | NDArray[np.int64]
    """float32 numbers, or int64 places of outputs, which are written as their names"""
    cuts: NDArray[np.int32] | None = None
    """[n + 1], for lists: that of item i is `values[cuts[i] : cuts[i + 1]]`"""


class Likelihood(OnTensors):
    """One kind of labels. To add a kind: a file with a subclass and its instance, a line in `LIKELIHOODS`.

    Each kind has one instance, without fields, in a constant that has its name in capitals. A pickle of the instance is
    the name of that constant. Comparing instances by `is` is therefore safe in every process.
    """

    name: ClassVar[str]
    """The name that files of heads, records and configs have for it, under `link`."""
    discrete: ClassVar[bool]
    """Whether there are finitely many answers, with names. A response is then the probability of an answer, and a head
    may get classes that it did not have."""
    exclusive: ClassVar[bool]
    """Whether an item has exactly one of the answers. Its responses then add up to 1."""
    quadratic: ClassVar[bool]
    """Whether the loss is half the squared error. A response is then the output itself, one Newton step of the mean is
    exact, an average over the posterior equals what the mean predicts, and a head knows the `noise` of labels."""
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
        """The outputs that a label names.

        Args:
            text: the label.
            where: names the item in an error.

        Returns:
            The class; the labels, sorted; or `value`.

        Raises:
            LabelError: the text is no label of this kind.
        """

    @abstractmethod
    def plain(self, text: str, where: str = "label") -> str:
        """The one spelling of a label. Answers of annotators who mean the same are then equal.

        Args:
            text: the label.
            where: names the item in an error.

        Returns:
            The label with its names sorted, or `3` for `3.0`.

        Raises:
            LabelError: as `names_in`.
        """

    def shown(self, text: str) -> str:
        """The label as reports show it.

        Args:
            text: the label.

        Returns:
            The text; for a number its first six digits.
        """
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
        """The names of the outputs of a head for these classes.

        Args:
            classes: in any order, repeated or not.

        Returns:
            The names, sorted.

        Raises:
            ConfigError: an output cannot have one of these names.
        """
        self.check_names(sorted(classes), "classes")
        return tuple(sorted(set(classes)))

    @abstractmethod
    def shares(self, answer: Answer, where: str) -> dict[str, float]:
        """The targets of the outputs that an answer names.

        Args:
            answer: a label, or shares of several.
            where: names the item in an error.

        Returns:
            Targets by name, without those that are 0: shares that add up to 1, a probability each, or the number.

        Raises:
            LabelError: a share is not a finite number of at least 0, or all are 0; or as `names_in`.
        """

    def targets(self, answers: Sequence[Answer], classes: Sequence[str]) -> Floats:
        """The targets of all outputs.

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
        """What outputs predict.

        Args:
            outputs: [n, C]

        Returns:
            Class probabilities, a probability for each label, or the numbers, [n, C].
        """

    @abstractmethod
    def losses(self, outputs: Floats, targets: Floats) -> Floats:
        """The loss of each item.

        Args:
            outputs: [n, C]
            targets: [n, C]

        Returns:
            Nats, or half the squared error, [n].
        """

    def total_loss(self, outputs: Floats, targets: Floats, weights: Floats) -> float:
        """The sum of `losses`, each times its weight [n]."""
        return float(self.losses(outputs, targets) @ weights)

    def target_mass(self, targets: Floats) -> Floats:
        """How much of a label each row of targets [n, C] is: [n, 1], the sum of the shares where classes exclude."""
        return np.ones((len(targets), 1))

    @abstractmethod
    def second_derivatives(self, responses: Floats) -> Floats:
        """The second derivatives of the losses in each output.

        Args:
            responses: [n, C] at which they are taken.

        Returns:
            The derivatives, [n, C].
        """

    def curvature_terms(self, responses: Floats, along: Floats) -> Floats:
        """The second derivatives of the losses along a direction, as terms.

        Args:
            responses: [n, C] at which they are taken.
            along: [n, C] the direction in which the outputs move.

        Returns:
            Terms [n, C]; those of an item add up to its derivative.
        """
        return np.asarray(self.second_derivatives(responses) * along**2)

    def hessian_roots(self, responses: Floats, weights: Floats) -> Floats:
        """Square roots of the Hessians of the losses in the outputs.

        Args:
            responses: [n, C] at which the Hessians are taken.
            weights: [n] that the Hessians are multiplied by.

        Returns:
            Matrices S [n, C, C] with S Sᵀ the Hessian of an item.
        """
        diagonal = self.second_derivatives(responses) * weights[:, None]
        return np.asarray(np.sqrt(diagonal)[:, :, None] * np.eye(responses.shape[1]))

    def hessian_sum(self, responses: Floats, weights: Floats) -> Floats:
        """The sum [C, C] of the Hessians in the outputs at responses [n, C], each times its weight [n]."""
        return np.asarray(np.diag((self.second_derivatives(responses) * weights[:, None]).sum(axis=0)))

    @abstractmethod
    def confidence_weights(self, responses: Floats) -> Floats:
        """What each item counts for in a covariance that is weighted by confidence.

        Args:
            responses: [n, C]

        Returns:
            [n], at most 1.
        """

    def with_joined(self, responses: Floats, odds: Floats) -> Floats:
        """The responses once further outputs have joined.

        Args:
            responses: [n, C] of the outputs there were.
            odds: [n, m] of the outputs that joined.

        Returns:
            The responses of all, [n, C + m].
        """
        return np.hstack([responses, odds / (1.0 + odds)])

    # Predictions.

    def centred(self, outputs: Floats) -> Floats:
        """Outputs [n, C] less what they share, where that changes no response."""
        return outputs

    def mean_field(self, outputs: Floats, variance: Floats, factor: float) -> Floats:
        """The mean response to Gaussian outputs; see `raysal.models.predictive.mean_field`.

        Args:
            outputs: [n, C], the mean of the outputs.
            variance: [n, C], or [n, 1] where outputs share it.
            factor: of the variance.

        Returns:
            The responses, [n, C].
        """
        return self.responses(outputs / np.sqrt(1.0 + factor * variance))

    @abstractmethod
    def entropy(self, responses: Floats) -> Floats | None:
        """The Shannon entropy of the answers.

        Args:
            responses: [n, C]

        Returns:
            Nats [n], of the class or summed over the labels; None where there are not finitely many answers.
        """

    @abstractmethod
    def groups(self, targets: Floats) -> NDArray[np.int64]:
        """The group [n] of each row of targets [n, C]: every fold should get an even share of each group."""

    @abstractmethod
    def texts(self, responses: Floats, classes: Sequence[str]) -> list[str]:
        """The labels that are predicted, as text.

        Args:
            responses: [n, C]
            classes: [C] names of the outputs.

        Returns:
            A label for each item, [n]; ties go to the first class.
        """

    @abstractmethod
    def columns(self, responses: Floats, variance: Floats, noise: float) -> dict[str, Column]:
        """The columns of a table of predictions that say what is predicted, and how surely.

        Args:
            responses: [n, C]
            variance: [n, 1] or [n, C] of the outputs, 0 where nobody asked for it.
            noise: variance of a label around its prediction, where labels are numbers.

        Returns:
            The columns by name.
        """

    @abstractmethod
    def judge(
        self,
        classes: Sequence[str],
        outputs: Floats,
        answers: Sequence[str],
        variance: Floats | None = None,
        weights: Floats | None = None,
    ) -> Evaluation:
        """How well outputs predict true answers.

        Args:
            classes: [C] names of the outputs.
            outputs: [n, C], over the temperature.
            answers: [n] labels, of classes that the head may not know.
            variance: [n, 1] of a label around its prediction, where labels are numbers; 1 unless given.
            weights: [n] that estimate a mean as Σ weight · value (`raysal.models.active_testing`); 1 / n unless given.

        Returns:
            The measures that suit this kind of labels.

        Raises:
            LabelError: as `names_in`.
        """


def checked_shares(shares: Answer, where: str) -> dict[str, float]:
    """Shares of several labels by name.

    Args:
        shares: as annotators gave them.
        where: names the item in an error.

    Returns:
        The shares, each a finite number of at least 0.

    Raises:
        LabelError: a share is no such number.
    """
    assert not isinstance(shares, str)
    found = {str(name): float(share) for name, share in shares.items()}
    if not all(0 <= share <= LARGEST for share in found.values()):
        raise LabelError(where, f"shares {found} hold one that is not a number of at least 0", "mend it")
    return found


def total_of(shares: dict[str, float], where: str) -> float:
    """The sum of shares.

    Args:
        shares: by name.
        where: names the item in an error.

    Returns:
        The sum, above 0.

    Raises:
        LabelError: all shares are 0.
    """
    total = sum(shares.values())
    if total == 0:
        raise LabelError(where, "its shares are all 0", "leave the item out")
    return total


def shannon(probabilities: Floats) -> Floats:
    """Shannon entropy in nats [n] of probabilities [n, C]."""
    logs = np.log(np.where(probabilities > 0, probabilities, 1.0))
    return np.asarray(-(probabilities * logs).sum(1))

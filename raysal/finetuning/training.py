"""The training itself: its data, its state, and one step after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysal.errors import ConfigError
from raysal.finetuning.losses import fixmatch_losses, labelled_loss
from raysal.finetuning.network import Network
from raysal.finetuning.options import FixMatch
from raysal.finetuning.sampling import labelled_places, unlabelled_places
from raysal.finetuning.steps import adam_, average_, learning_rate
from raysal.finetuning.views import Colour, Pixels, strong_view, views, weak_view
from raysal.models.trainers.pseudo_labels import learnt_thresholds
from raysal.numerics import ceil_div
from raysal.rng import derive
from raysal.threads import give_way

if TYPE_CHECKING:
    import torch

STEPS_AHEAD = 2
"""Steps whose views are made while the network works. Bounds the memory."""
MEASURES = ("labelled", "unlabelled", "pseudo_labelled", "rarest")
"""What is kept of each step: both losses, the share of unlabelled pictures with a pseudo-label, and the number of those
of the class that has fewest."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingSet:
    """The pictures of a training, and what is known of them."""

    pixels: NDArray[np.uint8]
    """[pictures, size, size, 3], perhaps on the disk"""
    rows: NDArray[np.int64]
    """[n + m] where in `pixels` each of them is: the labelled ones, then the others"""
    targets: NDArray[np.float64]
    """[n, C] shares of the classes"""
    weights: NDArray[np.float64]
    """[n]"""

    @property
    def labelled(self) -> int:
        """Labelled pictures."""
        return len(self.targets)

    @property
    def unlabelled(self) -> int:
        """The other pictures."""
        return len(self.rows) - len(self.targets)

    def groups(self) -> list[NDArray[np.int64]]:
        """The labelled pictures of each class that has some, by their largest share."""
        named = self.targets.argmax(1)
        return [np.flatnonzero(named == c) for c in np.unique(named)]


@dataclass(eq=False)
class State:
    """Where a training stands. All of it is saved, and nothing else decides what comes next."""

    network: Network
    mean: dict[str, torch.Tensor]
    """The average of the network's parameters and buffers."""
    moments: dict[str, tuple[torch.Tensor, torch.Tensor]]
    """Of Adam, for each parameter."""
    sure: NDArray[np.int64]
    """[m] the class that each unlabelled picture surely had when it was last seen; -1 for none"""
    curve: NDArray[np.float32]
    """[steps, 4] `MEASURES`"""
    step: int = 0
    """Steps that were made."""

    @classmethod
    def begin(cls, network: Network, data: TrainingSet, options: FixMatch) -> State:
        """The state before the first step."""
        import torch

        return cls(
            network=network,
            mean={name: value.clone() for name, value in network.state().items()},
            moments={
                name: (torch.zeros_like(value), torch.zeros_like(value)) for name, value in network.parameters().items()
            },
            sure=np.full(data.unlabelled, -1, np.int64),
            curve=np.zeros((options.steps, len(MEASURES)), np.float32),
        )

    def _parts(self) -> dict[str, torch.Tensor]:
        """All tensors by name; they share memory with the state."""
        import torch

        first, second = ({name: pair[at] for name, pair in self.moments.items()} for at in (0, 1))
        parts = {"network": self.network.state(), "mean": self.mean, "first": first, "second": second}
        found = {f"{part}/{name}": value.detach() for part, own in parts.items() for name, value in own.items()}
        return {**found, "sure": torch.from_numpy(self.sure), "curve": torch.from_numpy(self.curve)}

    def tensors(self) -> dict[str, torch.Tensor]:
        """What `load` takes: all tensors by name, on the CPU."""
        return {name: value.cpu().contiguous() for name, value in self._parts().items()}

    def load(self, step: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Go to where a training stood.

        Args:
            step: how many steps had been made.
            tensors: as `tensors` gave them.
        """
        import torch

        with torch.no_grad():
            for name, value in self._parts().items():
                value.copy_(tensors[name])
        self.step = step


class _Views(NamedTuple):
    """The pictures of one step."""

    labelled: NDArray[np.int64]
    unlabelled: NDArray[np.int64]
    pictures: list[Pixels]
    """Views of the labelled, then weak and then strong ones of the unlabelled."""


def train(
    state: State,
    data: TrainingSet,
    options: FixMatch,
    *,
    precision: str,
    workers: int,
    after: Callable[[State], None],
) -> None:
    """Make the steps that are left.

    Each step is a function of the state, the data and the options. On a CPU its bits are, too, for one number of
    threads.

    Args:
        state: where the training stands; it moves.
        data: the pictures.
        options: how to train.
        precision: `bfloat16` or `float32`, of products.
        workers: threads that make views.
        after: called after every step.

    Raises:
        ConfigError: the loss is not a number any more.
    """
    import torch

    network = state.network
    targets, weights = (torch.from_numpy(values).float().to(network.device) for values in (data.targets, data.weights))
    kind = network.device.type
    network.train()
    with (
        torch.random.fork_rng(devices=None if kind == "cuda" else []),
        closing(_views_ahead(data, options, state.step, network.backbone.mean, workers)) as ahead,
    ):
        for seen in ahead:
            key = derive(options.seed, "finetune", "network", state.step)
            torch.manual_seed(key >> 1)  # what the network itself draws, as dropout does
            with torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16"):
                logits = network.logits(seen.pictures)
            labelled, rows = len(seen.labelled), torch.from_numpy(seen.labelled).to(network.device)
            if len(seen.unlabelled):
                weak, strong = logits[labelled:].chunk(2)
                bars = torch.from_numpy(_thresholds(state.sure, weak.shape[1], options)).float().to(network.device)
                losses = fixmatch_losses(
                    logits[:labelled], targets[rows], weights[rows], weak, strong, bars, options.balance
                )
                loss = losses.labelled + options.weight * losses.unlabelled
                state.curve[state.step] = _measures(losses, weak.shape[1])
                certain = (losses.top > options.cutoff).cpu().numpy()
                state.sure[seen.unlabelled] = np.where(certain, losses.pseudo.cpu().numpy(), -1)
            else:
                loss = labelled_loss(logits, targets[rows], weights[rows])
                state.curve[state.step, 0] = float(loss.detach())
            if not bool(torch.isfinite(loss.detach())):
                problem = f"{options.learning_rate}: the loss is not a number after {state.step} steps"
                raise ConfigError("learning_rate", problem, "use a lower one, in another directory")
            loss.backward()  # type: ignore[no-untyped-call]
            rate = learning_rate(options.learning_rate, state.step, options.steps)
            adam_(network.parameters(), state.moments, state.step, rate, options.decay)
            average_(state.mean, network.state(), options.keep)
            state.step += 1
            after(state)


def _thresholds(sure: NDArray[np.int64], classes: int, options: FixMatch) -> NDArray[np.float64]:
    """The threshold of each class, by what all unlabelled pictures were when they were last seen."""
    learnt = np.bincount(sure[sure >= 0], minlength=classes)
    floor = options.cutoff if options.floor is None else options.floor
    return learnt_thresholds(learnt, int((sure < 0).sum()), options.cutoff, floor)


def _measures(losses: Any, classes: int) -> list[float]:
    """`MEASURES` of a step."""
    counts = np.bincount(losses.pseudo[losses.taken].cpu().numpy(), minlength=classes)
    share = float(losses.taken.float().mean())
    return [float(losses.labelled.detach()), float(losses.unlabelled.detach()), share, float(counts.min())]


def _views_ahead(
    data: TrainingSet, options: FixMatch, first: int, mean: Sequence[float], workers: int
) -> Generator[_Views]:
    """The views of the steps from `first` on, made in other threads while the network works."""
    red, green, blue = (round(value) for value in mean)
    make = partial(_views_of, data, data.groups(), options, (red, green, blue))
    with (
        ThreadPoolExecutor(1) as planner,
        ThreadPoolExecutor(workers, initializer=give_way) as makers,
    ):
        steps = iter(range(first, options.steps))
        waiting: deque[Future[_Views]] = deque()
        try:
            while True:
                while len(waiting) < STEPS_AHEAD and (step := next(steps, None)) is not None:
                    waiting.append(planner.submit(make, makers, workers, step))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _views_of(
    data: TrainingSet,
    groups: Sequence[NDArray[np.int64]],
    options: FixMatch,
    fill: Colour,
    makers: ThreadPoolExecutor,
    workers: int,
    step: int,
) -> _Views:
    """The pictures of one step."""
    seed = options.seed
    labelled = labelled_places(groups, options.batch_size, step, seed)
    size = options.unlabelled_size if data.unlabelled else 0
    unlabelled = unlabelled_places(data.unlabelled, size, step, seed) if size else np.zeros(0, np.int64)
    weak = partial(weak_view, symmetry=options.symmetry)
    strong = partial(strong_view, symmetry=options.symmetry, distortions=options.distortions, fill=fill)
    own, others = data.rows[labelled], data.rows[data.labelled + unlabelled]
    parts = [("labelled", own, weak), ("weak", others, weak), ("strong", others, strong)]
    made: list[Future[list[Pixels]]] = []
    for kind, places, view in parts:
        piece = ceil_div(len(places), workers) or 1
        made += [
            makers.submit(_some_views, data.pixels, places[at : at + piece], view, seed, kind, step, at)
            for at in range(0, len(places), piece)
        ]
    return _Views(labelled, unlabelled, [view for future in made for view in future.result()])


def _some_views(
    pixels: NDArray[np.uint8],
    rows: NDArray[np.int64],
    view: Callable[[Pixels, np.random.Generator], Pixels],
    seed: int,
    kind: str,
    step: int,
    first: int,
) -> list[Pixels]:
    return views([pixels[row] for row in rows.tolist()], view, seed, kind, step, first)

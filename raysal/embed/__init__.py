"""Items to vectors, once per encoder. To add one: a file with a class as in `base.Encoder`, a line here."""

from __future__ import annotations

from raysal._callable import make_callable
from raysal.embed.base import Encoder
from raysal.embed.custom import Torch
from raysal.embed.efficientnet import EfficientNetLite0
from raysal.embed.precomputed import Precomputed
from raysal.embed.sentence import Sentence
from raysal.embed.timm_model import Timm

ENCODERS: dict[str, type[Encoder]] = {
    "efficientnet_lite0": EfficientNetLite0,
    "precomputed": Precomputed,
    "sentence": Sentence,
    "timm": Timm,
    "torch": Torch,
}

__all__ = ["ENCODERS", "Encoder"]

make_callable(__name__)

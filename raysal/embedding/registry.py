"""The encoders by name. To add one: one file with a class as in `base.Encoder`, and one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raysal.registry import Registry

if TYPE_CHECKING:
    from raysal.embedding.base import Encoder

ENCODERS: Registry[type[Encoder]] = Registry(
    {
        "efficientnet_lite0": "raysal.embedding.efficientnet:EfficientNetLite0",
        "finetuned": "raysal.embedding.finetuned:FineTuned",
        "open_clip": "raysal.embedding.open_clip_model:OpenClip",
        "precomputed": "raysal.embedding.precomputed:Precomputed",
        "sentence": "raysal.embedding.sentence:Sentence",
        "spectrogram": "raysal.embedding.spectrogram:Spectrogram",
        "timm": "raysal.embedding.timm_model:Timm",
        "torch": "raysal.embedding.custom:Torch",
        "waveform": "raysal.embedding.waveform:Waveform",
    }
)

"""The image encoders that can be trained on: what fine-tuning starts from.

An encoder that can be trained has a method `backbone`, which builds its network anew each time: the weights of an
encoder that is in use are never touched. To let another encoder be trained, write that method, and add a line to
`BACKBONES`.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from raysal.embedding.backbone import Backbone
from raysal.registry import Registry


@runtime_checkable
class Trainable(Protocol):
    """An image encoder that can be trained on."""

    def backbone(self, *, pretrained: bool = True) -> Backbone:
        """Build the encoder's network anew, on the CPU.

        Args:
            pretrained: with the encoder's weights; else they are about to be replaced, and may be anything.

        Returns:
            The network, which nothing else shares.
        """
        ...


BACKBONES: Registry[type[Trainable]] = Registry(
    {
        "efficientnet_lite0": "raysal.embedding.efficientnet:EfficientNetLite0",
        "timm": "raysal.embedding.timm_model:Timm",
        "torch": "raysal.embedding.custom:Torch",
    }
)
"""The encoders that can be trained, by their names in `raysal.embedding.registry`. (A fine-tuned one can be, too.)"""

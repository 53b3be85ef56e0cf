"""Items to vectors, once per encoder: `base` says what an encoder is, `registry` lists them, `job` embeds a source."""

from raysal.embedding.registry import ENCODERS

__all__ = ["ENCODERS"]

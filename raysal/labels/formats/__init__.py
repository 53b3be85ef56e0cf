"""The files of label tools: a registry of formats, each with what it writes and what it reads."""

from raysal.labels.formats.base import Format, Sheet
from raysal.labels.formats.registry import FORMATS

__all__ = ["FORMATS", "Format", "Sheet"]

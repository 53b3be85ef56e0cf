"""Training an image encoder on the labels of a run: `job` does it, `options` lists what can be set.

    labels of a run ─┐                                 every N steps: work/state
                     ├─ pictures ─ views ─ step ─ average ─┴─▶ MODEL/ ──▶ encoder finetuned:MODEL ──▶ another pool
    pictures by key ─┘  (work/pixels)

`raysal.embedding.finetuned` reads what is written here: the directory of a model.
"""

from raysal.finetuning.options import FixMatch

__all__ = ["FixMatch"]

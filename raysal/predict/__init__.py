"""From a head to what it says of every item of a pool, at rest."""

from raysal._callable import make_callable
from raysal.predict.files import Predictions
from raysal.predict.job import Options, PredictReport, head_of_run, predict_pool

__all__ = ["Options", "PredictReport", "Predictions", "head_of_run", "predict_pool"]

make_callable(__name__)

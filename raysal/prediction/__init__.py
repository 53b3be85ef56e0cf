"""From a head to what it says of every item of a pool, at rest."""

from raysal.prediction.files import Predictions
from raysal.prediction.job import Options, PredictReport, head_of_run, predict_pool

__all__ = ["Options", "PredictReport", "Predictions", "head_of_run", "predict_pool"]

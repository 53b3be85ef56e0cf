"""What a head predicts for every item of a pool, as files: `job` makes them, `files` writes and reads them."""

from raysal.prediction.files import Predictions
from raysal.prediction.heads import head_of_run
from raysal.prediction.job import Options, PredictReport, predict_pool

__all__ = ["Options", "PredictReport", "Predictions", "head_of_run", "predict_pool"]

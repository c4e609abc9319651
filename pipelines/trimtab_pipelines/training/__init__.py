"""Training: one document in, one artifact out.

`stage` is the frame and imports no torch; `recipe` is the training itself and reads from top to
bottom: setup, train, save.
"""

from trimtab_pipelines.training.stage import STAGE

__all__ = ["STAGE"]

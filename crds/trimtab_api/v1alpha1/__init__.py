"""Version v1alpha1 of the custom resources."""

from trimtab_api.v1alpha1.dataset import Dataset
from trimtab_api.v1alpha1.decision import Decision
from trimtab_api.v1alpha1.finetunejob import FineTuneJob
from trimtab_api.v1alpha1.inferenceservice import InferenceService
from trimtab_api.v1alpha1.modelversion import ModelVersion

__all__ = ["Dataset", "Decision", "FineTuneJob", "InferenceService", "ModelVersion"]

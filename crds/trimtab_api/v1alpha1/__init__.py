"""Version v1alpha1 of the custom resources."""

<<<<<<< HEAD
from trimtab_api.v1alpha1.decision import Decision
=======
from trimtab_api.v1alpha1.dataset import Dataset
>>>>>>> preparation
from trimtab_api.v1alpha1.finetunejob import FineTuneJob
from trimtab_api.v1alpha1.inferenceservice import InferenceService
from trimtab_api.v1alpha1.modelversion import ModelVersion

<<<<<<< HEAD
__all__ = ["Decision", "FineTuneJob", "InferenceService", "ModelVersion"]
=======
__all__ = ["Dataset", "FineTuneJob", "InferenceService", "ModelVersion"]
>>>>>>> preparation

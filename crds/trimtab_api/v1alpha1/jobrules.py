"""What the parts of a FineTuneJob's spec must be to each other; each message names the field and the remedy."""

from typing import Final

from trimtab_api.model import Rule
from trimtab_api.v1alpha1.evaluation import OF_TEXT, one_of

_NEEDS_SCRATCH: Final = "!has(self.baseModel.scratch) || "
# What a named Dataset holds is known only once it is Ready; the operator asks the same of it then.
_IS_NAMED: Final = "!has(self.dataset.inline) || "
SPEC_RULES: Final = (
    Rule(
        _NEEDS_SCRATCH + "self.objective == 'Pretraining'",
        "baseModel.scratch knows no language yet; set objective: Pretraining",
        at=".objective",
    ),
    Rule(
        _NEEDS_SCRATCH + "has(self.method.full)",
        "baseModel.scratch has no weights to keep; set method: {full: {}}",
        at=".method",
    ),
    Rule(
        _NEEDS_SCRATCH + "self.hyperparameters.maxLength <= self.baseModel.scratch.contextLength",
        "hyperparameters.maxLength must not exceed baseModel.scratch.contextLength; set maxLength to it or less",
        at=".hyperparameters.maxLength",
    ),
    Rule(
        _IS_NAMED + "self.objective != 'Pretraining' || self.dataset.inline.task == 'Text'",
        "objective Pretraining learns from plain text; set dataset.inline.task: Text, or objective: Supervised",
        at=".dataset.inline.task",
    ),
    Rule(
        _IS_NAMED
        + "self.objective != 'Supervised' || self.dataset.inline.task in ['Instruction', 'Chat']",
        "objective Supervised learns answers; set dataset.inline.task to Instruction or Chat, or objective: Pretraining",
        at=".dataset.inline.task",
    ),
    Rule(
        _IS_NAMED + "!has(self.earlyStopping) || self.dataset.inline.split.validation > 0",
        "earlyStopping watches the validation split; set dataset.inline.split.validation above 0, or remove earlyStopping",
        at=".earlyStopping",
    ),
    Rule(
        _IS_NAMED
        + "!has(self.evaluation.gates) || self.evaluation.gates.size() == 0 || self.dataset.inline.split.test > 0",
        "evaluation.gates judge the test split; set dataset.inline.split.test above 0, or remove the gates",
        at=".evaluation.gates",
    ),
    Rule(
        _IS_NAMED + "self.dataset.inline.task != 'Text' || !has(self.evaluation.gates) || "
        f"self.evaluation.gates.all(g, {one_of(OF_TEXT, 'g')})",
        "evaluation.gates of task Text can only be on Loss, Perplexity and figures of suites, because there are no "
        "answers to compare; change the metric",
        at=".evaluation.gates",
    ),
)

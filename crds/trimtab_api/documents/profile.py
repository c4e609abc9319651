"""The reference profile: what a version's requests and answers looked like when it was evaluated.

Counts alone, over features that `trimtab_api.features` defines; no text is in it.
"""

from pydantic import Field

from trimtab_api.features import TopicModel
from trimtab_api.model import ApiModel


class Topics(ApiModel):
    """Centroids of the prompts, a byte per dimension in base64, and how many prompts were near each.

    `counts` has one entry more than there are centroids: prompts that are near none of them.
    """

    weights: str
    centroids: list[str]
    least_similarity: float
    counts: list[int]

    def model(self) -> TopicModel:
        """What tells the topic of a text."""
        return TopicModel.decoded(self.weights, self.centroids, self.least_similarity)


class ReferenceProfile(ApiModel):
    """Histograms go by `features.LENGTH_BOUNDS`; `features` is the version of the functions."""

    features: int
    prompts: int
    answers: int = 0
    prompt_characters: list[int]
    prompt_tokens: list[int]
    answer_characters: list[int] = Field(default_factory=list)
    answer_tokens: list[int] = Field(default_factory=list)
    finish_reasons: dict[str, int] = Field(default_factory=dict)
    refusals: int = 0
    languages: dict[str, int] = Field(default_factory=dict)
    topics: Topics | None = None

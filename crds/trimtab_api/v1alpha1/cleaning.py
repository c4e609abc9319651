"""What is dropped from data or changed in it, step by step."""

from enum import StrEnum
from typing import Annotated, ClassVar, Final

from pydantic import Field

from trimtab_api.model import ApiModel, Rule
from trimtab_api.v1alpha1.common import ObjectName

# What counts as a near duplicate where spec.clean.deduplicate.threshold is not stated.
DEFAULT_THRESHOLD: Final = 0.85


class CharacterLimits(ApiModel):
    """Lengths that are kept, in characters: of prompt and answers together, of all messages, or of the text."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.max) || self.min <= self.max",
            "characters.min must not exceed characters.max, or nothing would be kept; change one of them",
            at=".min",
        ),
    )

    min: Annotated[int, Field(ge=0, le=100_000_000, description="Shorter records are dropped.")] = 0
    max: Annotated[
        int | None, Field(ge=1, le=100_000_000, description="Longer records are dropped.")
    ] = None


LanguageCode = Annotated[
    str, Field(pattern="^[a-z]{2}$", max_length=2, description="ISO 639-1, en for example.")
]


class LanguageFilter(ApiModel):
    """Languages that are kept, by detection; a record in another one is dropped."""

    allow: Annotated[
        list[LanguageCode],
        Field(
            min_length=1,
            max_length=32,
            description="Languages that are kept, by their ISO 639-1 code: en, de.",
        ),
    ]
    at_least: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="How sure the detection must be of one of them; records below are dropped.",
        ),
    ] = 0.5


class DeduplicationMethod(StrEnum):
    """When two records count as the same."""

    EXACT = "Exact"
    MIN_HASH = "MinHash"


class Deduplication(ApiModel):
    """Which repetitions are dropped; of each group the first record is kept."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.threshold) || self.method == 'MinHash'",
            "deduplicate.threshold belongs to method: MinHash; remove it, or set the method",
            at=".threshold",
        ),
    )

    method: Annotated[
        DeduplicationMethod,
        Field(
            description="Exact drops equal records; MinHash drops those that share most of their words, too."
        ),
    ] = DeduplicationMethod.EXACT
    threshold: Annotated[
        float | None,
        Field(
            ge=0.5,
            le=1,
            description="For MinHash: the Jaccard similarity of their word sequences from which two records count as "
            f"the same; {DEFAULT_THRESHOLD} unless stated.",
        ),
    ] = None

    @property
    def similarity(self) -> float | None:
        """The threshold that applies; None when only equal records are dropped."""
        if self.method is DeduplicationMethod.EXACT:
            return None
        return DEFAULT_THRESHOLD if self.threshold is None else self.threshold


class FindingAction(StrEnum):
    """What becomes of a record in which something was found."""

    REDACT = "Redact"
    DROP = "Drop"
    REPORT = "Report"


class ConfigMapKey(ApiModel):
    """One key of a ConfigMap of the namespace, mounted into the pod that needs it."""

    name: Annotated[ObjectName, Field(description="Name of the ConfigMap, in the same namespace.")]
    key: Annotated[
        str,
        Field(
            min_length=1,
            max_length=253,
            pattern=r"^[-._a-zA-Z0-9]+$",
            description="Key whose value is the list.",
        ),
    ]


EntityName = Annotated[
    str,
    Field(
        pattern="^[A-Z][A-Z0-9_]*$",
        max_length=64,
        description="Name of a kind, as presidio has it.",
    ),
]


class NameList(ApiModel):
    """Names that are known: of customers, colleagues, places."""

    config_map: Annotated[
        ConfigMapKey,
        Field(description="The list: one name per line, found as it is written there."),
    ]
    entity: Annotated[
        EntityName,
        Field(description="The kind that they count as, which is their mask: <PERSON>."),
    ] = "PERSON"


class PersonalData(ApiModel):
    """What is done about personal data, as far as patterns and lists find it."""

    action: Annotated[
        FindingAction,
        Field(
            description="Redact puts the kind in place of what was found, <EMAIL_ADDRESS> for example; Drop leaves the "
            "record out; Report only counts it."
        ),
    ] = FindingAction.REDACT
    entities: Annotated[
        list[EntityName],
        Field(
            max_length=64,
            description="Kinds that are looked for, by presidio's names: EMAIL_ADDRESS, PHONE_NUMBER, IBAN_CODE. Empty "
            "means all those that docs/data.md lists.",
        ),
    ] = Field(default_factory=list)
    names: Annotated[
        list[NameList],
        Field(
            max_length=8,
            description="Lists of names, which have no form that a pattern could find; looked for beside the kinds.",
        ),
    ] = Field(default_factory=list)


class Secrets(ApiModel):
    """What is done about keys, tokens and passwords."""

    action: Annotated[
        FindingAction,
        Field(
            description="Redact puts <SECRET> in place of what was found; Drop leaves the record out; Report only "
            "counts it."
        ),
    ] = FindingAction.REDACT


class WordListAction(StrEnum):
    """What becomes of a record that holds a word of the list."""

    DROP = "Drop"
    REPORT = "Report"


class WordList(ApiModel):
    """Words and phrases that are not wanted: toxic ones, names of customers, whatever the list holds."""

    config_map: Annotated[
        ConfigMapKey, Field(description="The list: one word or phrase per line, case ignored.")
    ]
    action: Annotated[
        WordListAction, Field(description="Drop leaves the record out; Report only counts it.")
    ] = WordListAction.DROP


class Cleaning(ApiModel):
    """What is dropped or changed, in this order; every step counts what it dropped."""

    characters: Annotated[CharacterLimits | None, Field(description="Lengths that are kept.")] = (
        None
    )
    languages: Annotated[LanguageFilter | None, Field(description="Languages that are kept.")] = (
        None
    )
    word_lists: Annotated[
        list[WordList], Field(max_length=8, description="Words that are not wanted.")
    ] = Field(default_factory=list)
    secrets: Annotated[
        Secrets | None, Field(description="Keys and passwords; absent: not looked for.")
    ] = None
    pii: Annotated[
        PersonalData | None, Field(description="Personal data; absent: not looked for.")
    ] = None
    deduplicate: Annotated[Deduplication, Field(description="Repetitions.")] = Deduplication()

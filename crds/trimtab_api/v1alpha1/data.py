"""What data is read and what is done to it: for a Dataset, and for a FineTuneJob that describes its own."""

from enum import StrEnum
from typing import Annotated, ClassVar, Final

from pydantic import Field

from trimtab_api.model import ApiModel, Rule
from trimtab_api.rules import record_address
from trimtab_api.v1alpha1.common import ObjectName, SecretReference, Uri

# What counts as a near duplicate where spec.clean.deduplicate.threshold is not stated.
DEFAULT_THRESHOLD: Final = 0.85
ColumnName = Annotated[str, Field(min_length=1, max_length=128)]


class SourceFormat(StrEnum):
    """File formats of records, and of documents that are cut into records."""

    AUTO = "Auto"
    JSONL = "JSONL"
    JSON = "JSON"
    CSV = "CSV"
    PARQUET = "Parquet"
    HTML = "HTML"
    PLAIN_TEXT = "PlainText"


class Source(ApiModel):
    """Where records come from."""

    rules: ClassVar[tuple[Rule, ...]] = record_address()

    uri: Annotated[
        Uri,
        Field(
            description="Address of one file or of several by a glob: oci://, configmap://, pvc://, s3://, "
            "https:// or hf://, for example s3://bucket/tickets/*.jsonl or configmap://name/key; or capture:// and an "
            "InferenceService, for what its gateways kept and callers corrected or rated."
        ),
    ]
    revision: Annotated[
        str | None, Field(max_length=128, description="For hf:// only: the commit to read.")
    ] = None
    format: Annotated[
        SourceFormat,
        Field(
            description="Format of the files; Auto goes by the file's ending. HTML and PlainText are documents, which "
            "are cut into records of task Text."
        ),
    ] = SourceFormat.AUTO
    credentials: Annotated[
        SecretReference | None,
        Field(
            description="Secret with what the source asks for, under the names that its own tools use: "
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, AWS_REGION; HF_TOKEN, HF_ENDPOINT; "
            "username, password; .dockerconfigjson; ca.crt."
        ),
    ] = None


class DatasetTask(StrEnum):
    """What one record is."""

    INSTRUCTION = "Instruction"
    CHAT = "Chat"
    PREFERENCE = "Preference"
    TEXT = "Text"


class Columns(ApiModel):
    """Which column of the source plays which part; the names on the left are Trimtab's."""

    prompt: Annotated[
        ColumnName,
        Field(description="Column of the prompt (tasks Instruction and Preference)."),
    ] = "prompt"
    completion: Annotated[
        ColumnName, Field(description="Column of the answer (task Instruction).")
    ] = "completion"
    messages: Annotated[
        ColumnName, Field(description="Column of the list of role and content (task Chat).")
    ] = "messages"
    text: Annotated[ColumnName, Field(description="Column of the text (task Text).")] = "text"
    chosen: Annotated[
        ColumnName, Field(description="Column of the better answer (task Preference).")
    ] = "chosen"
    rejected: Annotated[
        ColumnName, Field(description="Column of the worse answer (task Preference).")
    ] = "rejected"
    label: Annotated[
        ColumnName | None,
        Field(
            description="Column of a class that the record belongs to; kept in the record as label. Every record must "
            "have it once it is named."
        ),
    ] = None


class Documents(ApiModel):
    """How documents become records; a token is a word or a mark, counted without a tokenizer."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.overlap * 2 <= self.tokens",
            "documents.overlap must be at most half of documents.tokens, or most text would be read twice; "
            "lower overlap",
            at=".overlap",
        ),
    )

    tokens: Annotated[
        int, Field(ge=16, le=131072, description="Longest record cut from a document, in tokens.")
    ] = 512
    overlap: Annotated[
        int,
        Field(ge=0, le=65536, description="Tokens that a record repeats of the one before it."),
    ] = 32


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


class PersonalData(ApiModel):
    """What is done about personal data, as far as patterns find it."""

    action: Annotated[
        FindingAction,
        Field(
            description="Redact puts the kind in place of what was found, <EMAIL_ADDRESS> for example; Drop leaves the "
            "record out; Report only counts it."
        ),
    ] = FindingAction.REDACT
    entities: Annotated[
        list[
            Annotated[
                str,
                Field(
                    pattern="^[A-Z][A-Z0-9_]*$",
                    max_length=64,
                    description="Name of a kind, as presidio has it.",
                ),
            ]
        ],
        Field(
            max_length=64,
            description="Kinds that are looked for, by presidio's names: EMAIL_ADDRESS, PHONE_NUMBER, IBAN_CODE. Empty "
            "means all those that docs/data.md lists.",
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


class SplitBy(StrEnum):
    """What is hashed to choose a record's split; equal values never fall on both sides."""

    COMPLETION = "Completion"
    PROMPT = "Prompt"
    RECORD = "Record"


class Split(ApiModel):
    """Shares of the records, in per cent; by hash, so that new data never moves an old record."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.train + self.validation + self.test == 100",
            "split.train, split.validation and split.test must add up to 100; state all three",
        ),
    )

    train: Annotated[int, Field(ge=1, le=100, description="Per cent for training.")] = 90
    validation: Annotated[int, Field(ge=0, le=99, description="Per cent for early stopping.")] = 5
    test: Annotated[
        int, Field(ge=0, le=99, description="Per cent for evaluation, never trained on.")
    ] = 5
    by: Annotated[
        SplitBy,
        Field(
            description="What is hashed to choose the split. Completion is the answer, the better one of a preference, "
            "the assistant's last message, or the text."
        ),
    ] = SplitBy.COMPLETION
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="Seed of the hash.")] = 0


_DOCUMENT_FORMATS = "['HTML', 'PlainText']"


class DataDescription(ApiModel):
    """What is read, what a record is, and what is done to it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"self.task == 'Text' || self.sources.all(s, !(s.format in {_DOCUMENT_FORMATS}))",
            "sources of format HTML and PlainText are documents, which have no questions and answers; set task: Text, "
            "or another format",
            at=".sources",
        ),
        Rule(
            "!has(self.documents) || self.task == 'Text'",
            "documents belongs to task: Text; remove it, or set the task",
            at=".documents",
        ),
    )

    sources: Annotated[
        list[Source], Field(min_length=1, max_length=32, description="Where records come from.")
    ]
    task: Annotated[DatasetTask, Field(description="What one record is.")] = DatasetTask.INSTRUCTION
    columns: Annotated[Columns, Field(description="Which column plays which part.")] = Columns()
    documents: Annotated[
        Documents | None,
        Field(
            description="How HTML and PlainText sources are cut into records; absent: by the defaults."
        ),
    ] = None
    clean: Annotated[Cleaning, Field(description="What is dropped or changed.")] = Cleaning()
    split: Annotated[Split, Field(description="How records are divided.")] = Split()


class InlineDataset(DataDescription):
    """Data described where it is used."""


class DroppedRecords(ApiModel):
    """Records that one step left out."""

    step: Annotated[
        str,
        Field(
            max_length=64,
            description="Which step: Characters, Languages, WordLists, Secrets, Pii, ExactDuplicates, NearDuplicates, "
            "HeldOutNeighbours, Leakage.",
        ),
    ]
    count: Annotated[int, Field(ge=0, description="How many.")]


class PreparedRecords(ApiModel):
    """What became of the records that were read."""

    read: Annotated[int, Field(ge=0, description="Records read.")] = 0
    kept: Annotated[int, Field(ge=0, description="Records kept.")] = 0
    train: Annotated[int, Field(ge=0, description="Records in the training split.")] = 0
    validation: Annotated[int, Field(ge=0, description="Records in the validation split.")] = 0
    test: Annotated[int, Field(ge=0, description="Records in the test split.")] = 0
    dropped: Annotated[
        list[DroppedRecords],
        Field(max_length=16, description="What each step dropped; steps that dropped nothing too."),
    ] = Field(default_factory=list)

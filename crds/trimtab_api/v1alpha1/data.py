"""What data is read and what is done to it: for a Dataset, and for a FineTuneJob that describes its own."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from trimtab_api.model import ApiModel, Rule
from trimtab_api.rules import record_address
from trimtab_api.v1alpha1.cleaning import Cleaning
from trimtab_api.v1alpha1.common import SecretReference, Uri

MOST_SOURCES = 32
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
    ARGILLA = "Argilla"
    LABEL_STUDIO = "LabelStudio"


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
            "are cut into records of task Text. Argilla and LabelStudio are the JSON files that these tools export, "
            "with what people have corrected."
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


# Text and {column} in turns, at least one column; a doubled brace stands for itself.
_TEMPLATE_PATTERN = r"^([^{}]|\\{\\{|\\}\\})*\\{[^{}]+\\}([^{}]|\\{\\{|\\}\\}|\\{[^{}]+\\})*$"
_PARTS = ("prompt", "completion", "chosen", "rejected", "text")
Template = Annotated[str, Field(min_length=3, max_length=4096)]


class Templates(ApiModel):
    """Parts of a record that are put together from several columns; {column} stands for its value."""

    rules: ClassVar[tuple[Rule, ...]] = tuple(
        Rule(
            f"!has(self.{part}) || self.{part}.matches('{_TEMPLATE_PATTERN}')",
            f"templates.{part} must name at least one column in braces, as in Question: {{title}}; "
            "double a brace that is to stay",
            at=f".{part}",
        )
        for part in _PARTS
    )

    prompt: Annotated[
        Template | None, Field(description="The prompt; takes the place of columns.prompt.")
    ] = None
    completion: Annotated[
        Template | None, Field(description="The answer; takes the place of columns.completion.")
    ] = None
    chosen: Annotated[
        Template | None, Field(description="The better answer; takes the place of columns.chosen.")
    ] = None
    rejected: Annotated[
        Template | None, Field(description="The worse answer; takes the place of columns.rejected.")
    ] = None
    text: Annotated[
        Template | None, Field(description="The text; takes the place of columns.text.")
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
_TASKS_OF_PARTS = {
    "prompt": ("Instruction", "Preference"),
    "completion": ("Instruction",),
    "chosen": ("Preference",),
    "rejected": ("Preference",),
    "text": ("Text",),
}


def data_rules(texts: str) -> tuple[Rule, ...]:
    """What fits together; `texts` is the CEL expression for sources that are read as texts."""
    return (
        Rule(
            f"{texts} || self.sources.all(s, !(s.format in {_DOCUMENT_FORMATS}))",
            "sources of format HTML and PlainText are documents, which have no questions and answers; set task: Text, "
            "or another format",
            at=".sources",
        ),
        Rule(
            f"!has(self.documents) || {texts}",
            "documents belongs to task: Text; remove it, or set the task",
            at=".documents",
        ),
        *(
            Rule(
                f"!has(self.templates) || !has(self.templates.{part}) || "
                + (texts if part == "text" else f"self.task in {list(tasks)}"),
                f"templates.{part} is no part of a record of this task; remove it, or set task: {' or '.join(tasks)}",
                at=f".templates.{part}",
            )
            for part, tasks in _TASKS_OF_PARTS.items()
        ),
    )


class DataDescription(ApiModel):
    """What is read, what a record is, and what is done to it."""

    rules: ClassVar[tuple[Rule, ...]] = data_rules("self.task == 'Text'")

    sources: Annotated[
        list[Source],
        Field(min_length=1, max_length=MOST_SOURCES, description="Where records come from."),
    ]
    task: Annotated[DatasetTask, Field(description="What one record is.")] = DatasetTask.INSTRUCTION
    columns: Annotated[Columns, Field(description="Which column plays which part.")] = Columns()
    templates: Annotated[
        Templates | None,
        Field(description="Parts of a record that several columns make together."),
    ] = None
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
            description="Which step: Discarded, Characters, Languages, WordLists, Secrets, Pii, OffFormat, Ungrounded, "
            "RepeatedQuestions, ExactDuplicates, NearDuplicates, HeldOutNeighbours, Leakage.",
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
    synthetic: Annotated[
        int | None,
        Field(
            ge=0, description="Records kept that a model has written; absent where there is none."
        ),
    ] = None
    dropped: Annotated[
        list[DroppedRecords],
        Field(max_length=16, description="What each step dropped; steps that dropped nothing too."),
    ] = Field(default_factory=list)

"""Datasets that the API server must refuse, and what its answer must name: the field and the remedy."""

from tests.builders import COMMIT, REGISTRY, Manifest, dataset

# What stands before the colon says what is wrong; then the manifest, and words of the answer.
Wrong = dict[str, tuple[Manifest, tuple[str, ...]]]


def _source(**changes: str | dict[str, str]) -> Manifest:
    return dataset(sources=[{"uri": "configmap://pairs/train.jsonl", **changes}])


def _clean(**steps: object) -> Manifest:
    return dataset(clean=steps)


def _against(*references: object) -> Manifest:
    return dataset(leakage={"against": list(references)})


TEACHER = {"url": "https://api.example.com/v1", "model": "teacher"}


def _synthetic(teacher: object = None, **changes: object) -> Manifest:
    return dataset(synthetic={"teacher": teacher or TEACHER, **changes})


DATASETS: Wrong = {
    "a Dataset without sources": (
        dataset(sources=[]),
        ("spec.sources", "at least 1 items"),
    ),
    "workers for nobody": (
        dataset(workers={"count": 3}),
        ("workers belong to engine: Ray", "set it, or remove workers"),
    ),
    "an engine that nobody knows": (
        dataset(engine="Spark"),
        ("spec.engine", "supported values"),
    ),
    "a teacher on Ray": (
        dataset(engine="Ray", synthetic={"teacher": TEACHER}),
        ("a teacher is waited for", "use engine: Local"),
    ),
    "a Dataset of an unknown scheme": (
        _source(uri="file:///data.jsonl"),
        ("uri is not an address", "configmap://name/key"),
    ),
    "a Dataset from a file of what a service kept": (
        _source(uri="capture://chat/captured.jsonl"),
        ("uri is not an address", "capture://inferenceservice"),
    ),
    "a Dataset from what a service kept with credentials": (
        _source(uri="capture://chat", credentials={"secretName": "s"}),
        ("credentials are of no use for", "capture://"),
    ),
    "a Dataset from a hub's branch": (
        _source(uri="hf://datasets/org/name/x.jsonl", revision="main"),
        ("sources.revision must be the full commit",),
    ),
    "a Dataset from a bucket with a revision": (
        _source(uri="s3://bucket/x.jsonl", revision=COMMIT),
        ("sources.revision", "remove it"),
    ),
    "a format that nobody knows": (
        _source(format="XML"),
        ("spec.sources[0].format", "supported values"),
    ),
    "documents as questions and answers": (
        _source(format="HTML"),
        ("sources of format HTML and PlainText", "set task: Text"),
    ),
    "chunks of what is no text": (
        dataset(documents={"tokens": 256}),
        ("documents belongs to task: Text", "remove it"),
    ),
    "chunks that repeat more than they bring": (
        dataset(task="Text", documents={"tokens": 64, "overlap": 40}),
        ("documents.overlap must be at most half of documents.tokens", "lower overlap"),
    ),
    "shortest above longest": (
        _clean(characters={"min": 100, "max": 10}),
        ("characters.min must not exceed characters.max", "change one"),
    ),
    "languages without any": (
        _clean(languages={"allow": []}),
        ("spec.clean.languages.allow", "at least 1 items"),
    ),
    "a language by its name": (
        _clean(languages={"allow": ["English"]}),
        ("spec.clean.languages.allow[0]", "not be more than 2 bytes"),
    ),
    "a share of sureness above one": (
        _clean(languages={"allow": ["en"], "atLeast": 1.5}),
        ("spec.clean.languages.atLeast", "less than or equal to 1"),
    ),
    "a threshold for equal records": (
        _clean(deduplicate={"threshold": 0.8}),
        ("deduplicate.threshold belongs to method: MinHash", "set the method"),
    ),
    "a threshold that finds everything alike": (
        _clean(deduplicate={"method": "MinHash", "threshold": 0.1}),
        ("spec.clean.deduplicate.threshold", "greater than or equal to 0.5"),
    ),
    "personal data to be hidden": (
        _clean(pii={"action": "Hide"}),
        ("spec.clean.pii.action", '"Redact", "Drop", "Report"'),
    ),
    "a kind of personal data in other words": (
        _clean(pii={"entities": ["e-mail"]}),
        ("spec.clean.pii.entities[0]",),
    ),
    "a list of names without a key": (
        _clean(pii={"names": [{"configMap": {"name": "people"}}]}),
        ("spec.clean.pii.names[0].configMap.key", "Required value"),
    ),
    "words to be redacted": (
        _clean(wordLists=[{"configMap": {"name": "w", "key": "k"}, "action": "Redact"}]),
        ("spec.clean.wordLists[0].action", '"Drop", "Report"'),
    ),
    "a word list without a key": (
        _clean(wordLists=[{"configMap": {"name": "w"}}]),
        ("spec.clean.wordLists[0].configMap.key", "Required value"),
    ),
    "shares of 99": (
        dataset(split={"train": 90, "validation": 5, "test": 4}),
        ("must add up to 100", "state all three"),
    ),
    "leakage against nothing": (_against(), ("spec.leakage.against", "at least 1 items")),
    "leakage against nobody": (
        _against({}),
        ("against needs exactly one of dataset and uri", "remove the other"),
    ),
    "leakage against two at once": (
        _against({"dataset": {"name": "a"}, "uri": f"oci://{REGISTRY}/d@sha256:{'a' * 64}"}),
        ("against needs exactly one of dataset and uri", "remove the other"),
    ),
    "leakage against a tag": (
        _against({"uri": f"oci://{REGISTRY}/d:latest"}),
        ("spec.leakage.against[0].uri", "@sha256:"),
    ),
    "leakage against itself": (
        _against({"dataset": {"name": "tickets"}}),
        ("leakage.against names the Dataset itself", "remove it"),
    ),
    "a Dataset with a long name": (
        dataset("a" * 53),
        ("metadata.name of Dataset must have at most 52 characters", "shorter"),
    ),
    "a Dataset with dots in its name": (
        dataset("a.b"),
        ("metadata.name of Dataset", "without dots"),
    ),
    "a deadline of three hundred years": (
        dataset(activeDeadlineSeconds=2**31),
        ("spec.activeDeadlineSeconds", "less than or equal to 2147483647"),
    ),
    "a template without a column": (
        dataset(templates={"prompt": "Answer this"}),
        ("templates.prompt must name at least one column in braces",),
    ),
    "a template with a brace that is not closed": (
        dataset(templates={"prompt": "{title}: {body"}),
        ("templates.prompt must name at least one column", "double a brace"),
    ),
    "a template of another task": (
        dataset(templates={"chosen": "{a}"}),
        ("templates.chosen is no part of a record of this task", "set task: Preference"),
    ),
    "a text template for questions": (
        dataset(templates={"text": "{a}"}),
        ("templates.text is no part of a record of this task", "set task: Text"),
    ),
    "a teacher without an address": (
        _synthetic({"model": "teacher"}),
        ("an endpoint needs exactly one of inferenceService and url",),
    ),
    "a teacher at two addresses": (
        _synthetic({**TEACHER, "inferenceService": {"name": "llm"}}),
        ("an endpoint needs exactly one of inferenceService and url", "remove the other"),
    ),
    "a teacher with a password in its address": (
        _synthetic({**TEACHER, "url": "https://user:word@api.example.com/v1"}),
        ("url must be http:// or https://", "a key belongs into credentials"),
    ),
    "a teacher who writes conversations": (
        dataset(task="Chat", synthetic={"teacher": TEACHER}),
        ("synthetic writes question-answer pairs", "set task: Instruction"),
    ),
    "a teacher's pairs with labels": (
        dataset(synthetic={"teacher": TEACHER}, columns={"label": "topic"}),
        ("pairs that a teacher writes have no label", "remove columns.label"),
    ),
    "a teacher's pairs by a template": (
        dataset(synthetic={"teacher": TEACHER}, templates={"prompt": "{a}"}),
        ("the teacher writes prompt and completion", "templates.text"),
    ),
    "more pairs than a text gives": (
        _synthetic(pairsPerText=11),
        ("spec.synthetic.pairsPerText", "less than or equal to 10"),
    ),
    "a recording by its tag": (
        _synthetic(recording=f"oci://{REGISTRY}/d:latest"),
        ("spec.synthetic.recording", "@sha256:"),
    ),
}

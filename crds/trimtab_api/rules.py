"""CEL rules that several kinds share."""

from collections.abc import Collection, Iterable

from pydantic.alias_generators import to_camel

from trimtab_api.model import Rule

COMMIT_PATTERN = "^[0-9a-f]{40}$"
# Children are called <name>-<component>-<8 hex>, and a Job's name must fit a label (63 characters).
OWNER_NAME_LENGTH = 52
LABEL_LENGTH = 63

MODEL_ADDRESS = "hf://org/name, oci://registry/name@sha256:<64 hex> (or :tag), s3://bucket/prefix, pvc://claim/path"
_MODEL_PATTERNS = (
    r"hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*",
    r"oci://[A-Za-z0-9.:-]+/[a-z0-9._/-]+(:[A-Za-z0-9._-]+)?(@sha256:[0-9a-f]{64})?",
    r"s3://[a-z0-9][a-z0-9.-]+/.+",
    r"pvc://[a-z0-9][a-z0-9.-]*(/.*)?",
)


def exactly_one(*fields: str, what: str, remedy: str) -> Rule:
    """Exactly one of some optional fields."""
    if len(fields) == 2:  # cheaper, and easier to read in the API server's answer
        expression = f"has(self.{fields[0]}) != has(self.{fields[1]})"
    else:
        expression = f"[{', '.join(f'has(self.{f})' for f in fields)}].exists_one(x, x)"
    return Rule(expression, f"{what} needs exactly one of {_listed(fields)}; {remedy}")


def model_address(what: str) -> tuple[Rule, ...]:
    """The rules of `uri`, `revision` and `credentials` of a model."""
    pattern = "|".join(_MODEL_PATTERNS)
    return (
        Rule(
            f"!has(self.uri) || self.uri.matches('^({pattern})$')",
            f"{what}.uri is not an address that Trimtab can read; use one of {MODEL_ADDRESS}",
            at=".uri",
        ),
        *_revision(what, "hf://org/name"),
        Rule(
            "!has(self.credentials) || has(self.uri)",
            f"{what}.credentials belong to a uri; remove them",
            at=".credentials",
        ),
    )


def record_address() -> tuple[Rule, ...]:
    """The rules of a source of records."""
    return (
        Rule(
            r"self.uri.matches('^(oci://[^/\\s]+/|configmap://[a-z0-9][a-z0-9.-]*/|pvc://[a-z0-9][a-z0-9.-]*/|"
            r"s3://[a-z0-9][a-z0-9.-]+/|https://[^/\\s]+/|hf://(datasets/)?[^/\\s]+/[^/\\s]+/)[^\\s].*$') || "
            r"self.uri.matches('^capture://[a-z]([-a-z0-9]*[a-z0-9])?$')",
            "uri is not an address that Trimtab can read; use one of oci://registry/name:tag, configmap://name/key, "
            "pvc://claim/path, s3://bucket/key, https://host/path, hf://datasets/org/name/path (* is a glob), "
            "capture://inferenceservice",
            at=".uri",
        ),
        *_revision("sources", "hf://datasets/org/name/path"),
        Rule(
            "!has(self.credentials) || !self.uri.matches('^(configmap|pvc|capture)://')",
            "credentials are of no use for configmap://, pvc:// and capture://; remove them",
            at=".credentials",
        ),
    )


def _revision(what: str, form: str) -> tuple[Rule, ...]:
    is_hub = "has(self.uri) && self.uri.startsWith('hf://')"
    return (
        Rule(
            f"!({is_hub}) || (has(self.revision) && self.revision.matches('{COMMIT_PATTERN}'))",
            f"{what}.revision must be the full commit (40 hex digits) of {form}, because a branch or tag would move; "
            "copy it from the repository's history",
        ),
        Rule(
            f"!has(self.revision) || ({is_hub})",
            f"{what}.revision belongs to hf:// alone; remove it, and use a digest or a path instead",
            at=".revision",
        ),
    )


def immutable(
    fields: Iterable[str], optional: Collection[str], mutable: Collection[str], remedy: str
) -> tuple[Rule, ...]:
    """One rule for each field that may never change, so that the answer names it."""
    return tuple(
        Rule(
            _unchanged(name, is_optional=field in optional),
            f"spec.{name} cannot be changed; {remedy}",
            at=f".{name}",
        )
        for field in fields
        if (name := to_camel(field)) and field not in mutable
    )


def _unchanged(name: str, *, is_optional: bool) -> str:
    if not is_optional:
        return f"self.{name} == oldSelf.{name}"
    return (
        f"has(self.{name}) == has(oldSelf.{name}) && "
        f"(!has(self.{name}) || self.{name} == oldSelf.{name})"
    )


def short_name(kind: str, length: int, *, starts_with_letter: bool = False) -> tuple[Rule, ...]:
    """The name fits where it has to appear: in children's names and in labels."""
    pattern = f"^[a-z{'' if starts_with_letter else '0-9'}]([-a-z0-9]*[a-z0-9])?$"
    start = " and begin with a letter" if starts_with_letter else ""
    return (
        Rule(
            f"self.metadata.name.size() <= {length}",
            f"metadata.name of {kind} must have at most {length} characters, so that its children's names "
            "fit; choose a shorter one",
        ),
        Rule(
            f"self.metadata.name.matches('{pattern}')",
            f"metadata.name of {kind} must consist of a-z, 0-9 and -{start}; "
            "choose a name without dots"
            + (" that begins with a letter" if starts_with_letter else ""),
        ),
    )


def _listed(words: Iterable[str]) -> str:
    *head, last = words
    return f"{', '.join(head)} and {last}"

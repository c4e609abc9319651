"""What the chart grants the operator, by the chart's own text: no fake allows more than an API server would."""

import re
from functools import cache
from pathlib import Path
from typing import Final

from trimtab_operator.adapters.kinds import BY_NAME, EXPOSURES

RULES: Final = Path(__file__).parents[1] / "charts" / "trimtab" / "templates" / "_rules.tpl"
_RULE: Final = re.compile(
    r"^- apiGroups: \[(?P<groups>[^\]]*)\]\n"
    r"  resources: \[(?P<resources>[^\]]*)\]\n"
    r"(?: *#.*\n)?"
    r"  verbs: \[(?P<verbs>[^\]]*)\]",
    re.MULTILINE,
)
# What a write of the fake is to an API server: a verb, and a part of the object.
_ASKED: Final = {
    "apply": (("create", ""), ("patch", "")),
    "create": (("create", ""),),
    "patch": (("patch", ""),),
    "delete": (("delete", ""),),
    "status": (("patch", "/status"),),
    "finalizers": (("patch", ""),),
}


def missing(write: str, kind: str) -> list[str]:
    """The rights that a write takes and the chart does not grant."""
    if kind in EXPOSURES:  # which of them, its values say
        return []
    found = BY_NAME[kind]
    group = found.api_version.rpartition("/")[0]
    wanted = [(verb, f"{found.plural}{part}") for verb, part in _ASKED[write]]
    return [
        f"{verb} {resource}"
        for verb, resource in wanted
        if (verb, group, resource) not in granted()
    ]


@cache
def granted() -> frozenset[tuple[str, str, str]]:
    """Verb, API group, resource."""
    text = RULES.read_text().partition('define "trimtab.rules"')[2].partition("{{- end -}}")[0]
    return frozenset(
        (verb, rule["groups"].strip('"'), resource)
        for rule in _RULE.finditer(text)
        for resource in rule["resources"].split(", ")
        for verb in rule["verbs"].split(", ")
    )

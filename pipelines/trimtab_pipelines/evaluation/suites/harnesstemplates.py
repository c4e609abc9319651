"""How a task of lm-evaluation-harness makes text of a row, in a sandbox.

The harness renders templates in an environment in which they reach every attribute of Python. It also
takes functions in their place: so it gets ours, which render the same templates in jinja2's sandbox.
"""

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from trimtab_api.documents.evaluation import SuiteRun
from trimtab_pipelines.evaluation.suites.reading import invalid

Doc = Mapping[str, Any]
# What begins a template: the harness renders these fields itself, so that they must be plain text.
MARKS: Final = ("{{", "{%", "{#")

_SANDBOX: Final = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, keep_trailing_newline=True
)
_SANDBOX.filters["regex_replace"] = lambda text, pattern, by, count=0: re.sub(
    pattern, by, text, count=count
)


def text_of(suite: SuiteRun, task: str, source: str, *, has_choices: bool) -> Callable[[Doc], Any]:
    """The question of a row; a number where the choices are what is put into it."""
    render = _renderer(suite, f"{task}: doc_to_text", source)

    def of(doc: Doc) -> Any:
        found = render(doc)
        return int(found) if _is_place(found) and has_choices else found

    return of


def target_of(
    suite: SuiteRun, task: str, source: str | int | list[str], *, has_choices: bool
) -> Callable[[Doc], Any] | int | list[str]:
    """The answer of a row: a text, the place of a choice, or several texts that are as good."""
    if not isinstance(source, str):
        return source
    render = _renderer(suite, f"{task}: doc_to_target", source)

    def of(doc: Doc) -> Any:
        found = render(doc)
        if not isinstance(found, str):
            return found
        if _is_place(found) and has_choices:
            return int(found)
        return _literal(found) if found[:1] == "[" and found[-1:] == "]" else found

    return of


def choices_of(
    suite: SuiteRun, task: str, source: str | list[str] | dict[str, str] | None
) -> Callable[[Doc], Any] | list[str] | dict[str, str] | None:
    """The choices of a row, in their order."""
    if not isinstance(source, str):
        return source
    render = _renderer(suite, f"{task}: doc_to_choice", source)

    def of(doc: Doc) -> Any:
        found = render(doc)
        return _literal(found) if isinstance(found, str) else found

    return of


def _renderer(suite: SuiteRun, where: str, source: str) -> Callable[[Doc], Any]:
    """A field of the row, where one is called so; else the template's text."""
    try:
        template = _SANDBOX.from_string(source)
    except TemplateError as error:
        raise invalid(suite, f"{where} is no template: {error}") from error

    def render(doc: Doc) -> Any:
        return doc[source] if source in doc else _rendered(suite, where, template, doc)

    return render


def _rendered(suite: SuiteRun, where: str, template: Template, doc: Doc) -> str:
    try:
        return template.render(**doc)
    # A template calls what it likes of the row's values, which may raise anything.
    except Exception as error:
        raise invalid(suite, f"{where}: {type(error).__name__}: {error}") from error


def _is_place(found: Any) -> bool:
    return isinstance(found, str) and found.isdecimal()


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text

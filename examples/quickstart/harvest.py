"""Real text that every machine has: the documentation of the running Python's standard library.

Two files come out: `pairs.jsonl` (a question about a function, its documentation's first sentence
as the answer) and `text.jsonl` (whole documentation texts). It is messy on purpose: cleaning it is
part of the job.
"""

import argparse
import contextlib
import importlib
import inspect
import io
import json
import pkgutil
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, NoneType
from typing import NamedTuple

# Modules that open windows, print jokes, or test Python itself; and one for which setuptools, where it
# is installed, puts its own in: the text would be another in another environment.
SKIPPED = frozenset(
    {
        "distutils",
        "antigravity",
        "this",
        "idlelib",
        "tkinter",
        "turtle",
        "turtledemo",
        "test",
        "lib2to3",
        "__main__",
    }
)
LONGEST_ANSWER = 160
SENTENCE_END = re.compile(r"(?<=[.!?])\s|\n\s*\n")


class Documented(NamedTuple):
    """One documented object."""

    module: str
    name: str
    signature: str
    documentation: str


def modules() -> Iterator[ModuleType]:
    """Every public module of the standard library that can be imported here."""
    for name in sorted(sys.stdlib_module_names):
        if name.startswith("_") or name in SKIPPED:
            continue
        module = _imported(name)
        if module is None:
            continue
        yield module
        for child in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}."):
            tail = child.name.rpartition(".")[2]
            if (
                not tail.startswith("_")
                and tail not in SKIPPED
                and tail not in {"tests", "__main__"}
            ):
                submodule = _imported(child.name)
                if submodule is not None:
                    yield submodule


def documented(module: ModuleType) -> Iterator[Documented]:
    """The module, its public classes, methods and functions, as far as they are documented."""
    if module.__doc__:
        yield Documented(module.__name__, module.__name__, "", inspect.cleandoc(module.__doc__))
    for name, value in sorted(vars(module).items()):
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        yield from _of(module.__name__, name, value)
        if inspect.isclass(value):
            for member, method in sorted(vars(value).items()):
                if not member.startswith("_"):
                    yield from _of(module.__name__, f"{name}.{member}", method)


def pair(item: Documented) -> dict[str, str] | None:
    """Question and answer about one object, or None when its text makes no good pair."""
    answer = " ".join(SENTENCE_END.split(item.documentation, maxsplit=1)[0].split())
    if not item.signature or not 12 <= len(answer) <= LONGEST_ANSWER or not answer[0].isupper():
        return None
    if not answer.endswith((".", "!", "?")):
        answer += "."
    name = f"{item.module}.{item.name}{item.signature}"
    return {"question": f"What does {name[:200]} do?", "answer": answer, "module": item.module}


def harvest(directory: Path) -> tuple[int, int]:
    """Write both files; return the numbers of pairs and of texts."""
    items = [item for module in modules() for item in documented(module)]
    pairs = [found for found in map(pair, items) if found]
    texts = sorted({item.documentation for item in items if len(item.documentation) >= 40})
    directory.mkdir(parents=True, exist_ok=True)
    _write(directory / "pairs.jsonl", pairs)
    _write(directory / "text.jsonl", [{"text": text} for text in texts])
    return len(pairs), len(texts)


def _of(module: str, name: str, value: object) -> Iterator[Documented]:
    value = getattr(value, "__func__", value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some objects warn of their age when they are looked at
        documentation = getattr(value, "__doc__", None)
    if not isinstance(documentation, str) or not documentation.strip():
        return
    signature = _signature(value) if callable(value) else ""
    yield Documented(module, name, signature, inspect.cleandoc(documentation))


class _Elided:
    """Stands in a signature for a default value that says more of this process than of the function."""

    def __repr__(self) -> str:
        return "..."


def _signature(value: Callable[..., object]) -> str:
    """As help() shows it, without values of this machine: addresses, and a whole environment in one case."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # built in C without a signature
        return "()"
    told = [
        parameter if _is_plain(parameter.default) else parameter.replace(default=_Elided())
        for parameter in signature.parameters.values()
    ]
    return str(signature.replace(parameters=told))


def _is_plain(default: object) -> bool:
    if isinstance(default, tuple):
        return all(map(_is_plain, default))
    if isinstance(default, str):
        return sys.prefix not in default  # where this Python lies
    return default is inspect.Parameter.empty or isinstance(default, bytes | int | float | NoneType)


def _imported(name: str) -> ModuleType | None:
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except (ImportError, OSError, SystemExit):  # for another system, or without its C library
            return None


def _write(path: Path, records: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    counts = harvest(parser.parse_args().directory)
    print(f"{counts[0]} pairs, {counts[1]} texts")

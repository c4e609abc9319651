"""Documents become records of task Text: pages as their readers see them, cut where a reader would pause."""

from pathlib import Path
from typing import Any

import pytest
from tests.pods import Pod, jsonl, pairs
from tests.preparedfiles import kept

from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.data import Documents, SourceFormat
from trimtab_pipelines.documents import Chunker, html_text
from trimtab_pipelines.formats import Reading, rows
from trimtab_pipelines.preparation.words import token_count
from trimtab_pipelines.runtime import RunError

PAGE = """<!DOCTYPE html><html><head><title>T</title><style>p{}</style></head><body>
<nav>Home | About</nav><header>Banner</header>
<h1>Install   it</h1>
<p>Run <b>this</b>
command:</p><pre>for x in y:
    print(x)</pre>
<ul><li>one</li><li>two</li></ul><table><tr><td>a</td><td>b</td></tr></table>
<script>var x = "no text";</script><footer>Imprint</footer></body></html>"""
ALL_TRAIN = {"train": 100, "validation": 0, "test": 0}


def test_a_page_is_read_as_its_readers_see_it() -> None:
    assert html_text(PAGE.encode(), "x") == (
        "Install it\n\nRun this command:\n\nfor x in y:\n    print(x)\n\none\n\ntwo\n\na b"
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param("<p>caf\xe9".encode(), "caf\xe9", id="UTF-8 unless it says otherwise"),
        pytest.param(
            b'<meta charset="iso-8859-1"><p>caf\xe9', "caf\xe9", id="what the page says of itself"
        ),
        pytest.param("<p>caf\xe9".encode("utf-16"), "caf\xe9", id="a byte order mark"),
        pytest.param(b"", "", id="nothing"),
        pytest.param(b"<main><p>in</p></main><p>out</p>", "in", id="the main part alone"),
    ],
)
def test_a_page_says_its_encoding(data: bytes, expected: str) -> None:
    assert html_text(data, "x") == expected


@pytest.mark.parametrize("data", [b"<p>caf\xe9", b'<meta charset="klingon"><p>a'])
def test_a_page_in_another_encoding_than_it_says_is_refused(data: bytes) -> None:
    with pytest.raises(RunError) as caught:
        html_text(data, "x.html")
    assert caught.value.reason is FailureReason.DATA_ENCODING
    assert "x.html: the page is not" in caught.value.message


def chunks(text: str, tokens: int, overlap: int = 0) -> list[str]:
    return list(Chunker(Documents(tokens=tokens, overlap=overlap)).chunks([text]))


def test_a_text_ends_with_a_paragraph_a_sentence_or_a_word() -> None:
    words = " ".join(f"w{n}" for n in range(12))
    assert chunks(f"{words}\n\n{words}", 16) == [words, words]
    assert chunks(f"{words}. {words}", 16) == [f"{words}.", words]
    assert chunks(f"{words} {words}", 16)[0] == f"{words} w0 w1 w2 w3"


def test_a_short_document_is_one_record() -> None:
    assert chunks(" a b\n", 16) == ["a b"]
    assert chunks(" \n", 16) == []


@pytest.mark.parametrize("overlap", [0, 3, 8])
def test_chunks_hold_all_of_a_document_and_repeat_what_was_asked(overlap: int) -> None:
    words = [f"w{n}" for n in range(500)]
    found = chunks(" ".join(words), 16, overlap)
    assert all(token_count(chunk) <= 16 for chunk in found)
    seen = found[0].split()
    for chunk in found[1:]:
        part = chunk.split()
        assert part[:overlap] == seen[len(seen) - overlap :]
        seen += part[overlap:]
    assert seen == words


def test_what_comes_in_pieces_is_cut_as_if_it_came_at_once() -> None:
    text = "One two three four. " * 200
    pieces = [text[n : n + 7] for n in range(0, len(text), 7)]
    settings = Documents(tokens=32, overlap=4)
    assert all(token_count(c) <= 32 for c in Chunker(settings).chunks(pieces))
    whole = [line + "\n" for line in text.split(". ")]
    assert list(Chunker(settings).chunks(whole)) == list(Chunker(settings).chunks(["".join(whole)]))


def test_documents_of_a_glob_become_records(pod: Pod) -> None:
    pod.file("/claims/claim/docs/a.html", PAGE)
    pod.file("/claims/claim/docs/b.txt", "\n\n".join(f"Paragraph {n} is here." for n in range(40)))
    result = pod.prepare(
        "pvc://claim/docs/*",
        task="Text",
        documents={"tokens": 16, "overlap": 0},
        split=ALL_TRAIN,
        columns={"text": "body"},
    )
    texts = [record["text"] for record in kept(pod, result)]
    assert texts[0].startswith("Install it")
    assert texts[-1].endswith("Paragraph 39 is here.")


def test_documents_have_no_questions(pod: Pod) -> None:
    pod.file("/claims/claim/a.md", "text")
    failure = pod.prepare("pvc://claim/a.md").failure
    assert failure is not None
    assert failure.reason == FailureReason.DATA_MALFORMED
    assert "set task: Text" in failure.message


def test_records_in_a_file_of_another_ending_are_read_as_said(pod: Pod) -> None:
    pod.file("/claims/claim/a.txt", jsonl(*pairs(5)))
    sources: list[Any] = [{"uri": "pvc://claim/a.txt", "format": "JSONL"}]
    assert len(kept(pod, pod.prepare(sources=sources, split=ALL_TRAIN))) == 5


def test_a_page_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.html"
    with path.open("wb") as file:
        file.truncate(33 << 20)
    with pytest.raises(RunError, match=r"x.html: the page is larger than 32 MiB"):
        list(rows(path, "x.html", SourceFormat.HTML, Reading(columns=("text",))))

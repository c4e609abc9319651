"""The steps that look at one record at a time: what they keep, change, drop and tell."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from tests.pods import Pod, jsonl, pairs
from tests.preparedfiles import kept, report_of, table

from trimtab_api import secretforms
from trimtab_api.reasons import FailureReason
from trimtab_api.secretforms import Span, without_overlaps
from trimtab_api.v1alpha1.cleaning import LanguageFilter
from trimtab_pipelines.preparation.cleaning import Languages
from trimtab_pipelines.preparation.normalising import normalised
from trimtab_pipelines.preparation.personal import PersonalData, is_only_personal
from trimtab_pipelines.preparation.tally import Tally
from trimtab_pipelines.preparation.wordlists import Names, Phrases
from trimtab_pipelines.runtime import RunError

URI = "pvc://claim/in.jsonl"
KEY = "AKIAIOSFODNN7EXAMPL3"
ALL_TRAIN = {"train": 100, "validation": 0, "test": 0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a\r\nb\rc\u2028d", "a\nb\nc\nd", id="line ends"),
        pytest.param("a\x00b\x07c\ufeffd\x7f", "abcd", id="NUL, controls and marks"),
        pytest.param("cafe\u0301", "caf\u00e9", id="composed"),
        pytest.param("e\x00\u0301", "\u00e9", id="composed once what stood between is gone"),
        pytest.param("a  \n\tb\u00a0\n", "a\n\tb", id="blanks behind lines"),
        pytest.param("\n\n    code\n  more", "    code\n  more", id="blanks before a line stay"),
        pytest.param(" \x00\n", "", id="nothing"),
    ],
)
def test_texts_are_normalised(text: str, expected: str) -> None:
    assert normalised(text) == expected
    assert normalised(expected) == expected


SECRETS = [
    pytest.param(f"id {KEY}.", f"id {secretforms.MASK}.", id="an AWS access key"),
    pytest.param(
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        f"aws_secret_access_key = {secretforms.MASK}",
        id="an AWS secret key",
    ),
    pytest.param(
        f"push with ghp_{'aB3' * 12}!", f"push with {secretforms.MASK}!", id="a GitHub token"
    ),
    pytest.param(
        "x\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\ny",
        f"x\n{secretforms.MASK}\ny",
        id="a private key",
    ),
    pytest.param(
        "-----BEGIN PRIVATE KEY-----\nMIIE and cut",
        secretforms.MASK,
        id="a private key that is cut",
    ),
    pytest.param(
        "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTYifQ.dBjftJeZ4CVPmB92K27uhbUJU1p1r",
        f"Bearer {secretforms.MASK}",
        id="a JSON web token",
    ),
    pytest.param(
        'password: "tr0ub4dor&3xQ9"',
        f'password: "{secretforms.MASK}"',
        id="a password that is random",
    ),
    pytest.param(
        "postgres://app:hunter22@db:5432/x",
        f"postgres://app:{secretforms.MASK}@db:5432/x",
        id="a password in an address",
    ),
    pytest.param("Forgot the password: contact support", None, id="a password that is a word"),
    pytest.param("password = ************", None, id="stars"),
    pytest.param("token: 20240131", None, id="a number"),
    pytest.param("api_key=$API_KEY_FROM_ENV_1", None, id="a variable"),
    pytest.param("the token is a word of the text", None, id="a token of a text"),
]


@pytest.mark.parametrize(("text", "expected"), SECRETS)
def test_secrets_are_found_by_their_form(text: str, expected: str | None) -> None:
    assert secretforms.masked(text, secretforms.found_in(text)) == (expected or text)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        pytest.param("write to jane.doe@example.com", ["EMAIL_ADDRESS"], id="an address"),
        pytest.param("call +1 415 555 2671 now", ["PHONE_NUMBER"], id="a phone number"),
        pytest.param(
            "card 4111 1111 1111 1111", ["CREDIT_CARD"], id="a card with a sound checksum"
        ),
        pytest.param("card 4111 1111 1111 1112", [], id="a card whose checksum is wrong"),
        pytest.param("to DE89370400440532013000", ["IBAN_CODE"], id="an IBAN"),
        pytest.param("from 192.168.1.17", ["IP_ADDRESS"], id="an IP address"),
        pytest.param("Ada Lovelace lives in London", [], id="names and places are not found"),
        pytest.param("there are 1234567 rows", [], id="a count"),
    ],
)
def test_personal_data_is_found_by_its_form(text: str, kinds: list[str]) -> None:
    assert [span.kind for span in PersonalData([]).found_in(text)] == kinds


def test_words_before_a_number_tell_what_it_is() -> None:
    finder = PersonalData(["US_BANK_NUMBER"])
    assert finder.found_in("945456787654 rows") == []
    assert [s.kind for s in finder.found_in("my bank account 945456787654")] == ["US_BANK_NUMBER"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<EMAIL_ADDRESS>", True),
        ("<PHONE_NUMBER>, <SECRET>.", True),
        ("call <PHONE_NUMBER>", False),
        ("!", False),
    ],
)
def test_only_placeholders_are_no_text(text: str, expected: bool) -> None:
    assert is_only_personal(text) is expected


def test_phrases_are_found_word_by_word() -> None:
    phrases = Phrases(["# a remark", "Foo", "two  words", "禁句", ""])
    assert phrases.size == 3
    assert phrases.found_in("a FOO, that") == "foo"
    assert phrases.found_in("food") is None
    assert phrases.found_in("Two\nwords") == "two words"
    assert phrases.found_in("words two") is None
    assert phrases.found_in("これは禁句です") == "禁 句"


@pytest.mark.parametrize(
    ("allow", "at_least", "is_kept"),
    [
        pytest.param(["en"], 0.5, True, id="in a language that is allowed"),
        pytest.param(["de", "fr"], 0.5, False, id="in another one"),
        pytest.param(["en"], 1.0, False, id="not sure enough"),
    ],
)
def test_languages_are_told_apart(allow: list[str], at_least: float, is_kept: bool) -> None:
    step = Languages(LanguageFilter(allow=allow, at_least=at_least))
    tally = Tally(str)
    record = {"text": "The quick brown fox jumps over the lazy dog and runs away from it."}
    assert (step(record, tally) is not None) is is_kept
    assert tally.steps["Languages"].dropped == (not is_kept)


def test_what_is_found_is_masked_in_the_data_and_in_every_example(pod: Pod) -> None:
    mail, card = "jane.doe@example.com", "4111 1111 1111 1111"
    records = [
        *pairs(40),
        {"prompt": "Whom do I ask?", "completion": f"Write to {mail} or pay with {card}."},
        {"prompt": f"mail {mail} key {KEY} " + "x" * 300, "completion": "too long"},
        {"prompt": "And the key?", "completion": f"It is {KEY} and secret."},
    ]
    pod.file("/claims/claim/in.jsonl", jsonl(*records))
    result = pod.prepare(
        URI,
        clean={"characters": {"max": 200}, "pii": {}, "secrets": {}},
        split=ALL_TRAIN,
    )
    files = pod.pulled(result.data.uri) if result.data else {}
    page, document = report_of(pod, result)
    texts = [str(table(files["train.parquet"])), page, json.dumps(document)]
    for text in texts:
        assert not any(secret in text for secret in (mail, card, KEY))
        assert "<EMAIL_ADDRESS>" in text or "&lt;EMAIL_ADDRESS&gt;" in text
    steps = {step["step"]: step for step in document["steps"]}
    assert (steps["Pii"]["changed"], steps["Secrets"]["changed"]) == (1, 1)
    assert (steps["Characters"]["dropped"], len(steps["Characters"]["examples"])) == (1, 1)
    assert steps["Pii"]["found"] == {"CREDIT_CARD": 1, "EMAIL_ADDRESS": 1}


def test_what_is_only_counted_stays_in_the_data_but_is_not_shown(pod: Pod) -> None:
    mail = "jane.doe@example.com"
    records = [*pairs(20), {"prompt": "Who?", "completion": f"Ask {mail}."}]
    pod.file("/claims/claim/in.jsonl", jsonl(*records))
    result = pod.prepare(URI, clean={"pii": {"action": "Report"}}, split=ALL_TRAIN)
    assert mail in str(kept(pod, result))
    assert mail not in "".join(map(str, report_of(pod, result)))
    assert (
        "1 records hold personal data (EMAIL_ADDRESS 1) and were kept as they are, as asked"
        in result.warnings
    )


@pytest.mark.parametrize("action", ["Redact", "Drop"])
def test_a_record_that_is_only_personal_data_is_dropped(pod: Pod, action: str) -> None:
    records = [*pairs(20), {"prompt": "Mail?", "completion": "jane.doe@example.com"}]
    pod.file("/claims/claim/in.jsonl", jsonl(*records))
    result = pod.prepare(URI, clean={"pii": {"action": action}}, split=ALL_TRAIN)
    assert result.records is not None
    assert result.records.kept == 20
    assert {d.step: d.count for d in result.records.dropped if d.count} == {"Pii": 1}


def test_words_of_a_list_drop_or_are_counted(pod: Pod) -> None:
    pod.file("/configmaps/words/bad", "frobnicate\n")
    records = [*pairs(20), {"prompt": "How?", "completion": "Frobnicate it."}]
    pod.file("/claims/claim/in.jsonl", jsonl(*records))
    lists = [{"configMap": {"name": "words", "key": "bad"}, "action": "Report"}]
    counted = pod.prepare(URI, clean={"wordLists": lists})
    assert counted.records is not None
    assert counted.records.kept == 21
    assert "1 records hold words of a list and were kept as they are, as asked" in counted.warnings
    dropped = pod.prepare(URI, clean={"wordLists": [{**lists[0], "action": "Drop"}]})
    assert dropped.records is not None
    assert dropped.records.kept == 20


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        pytest.param("Ask Jane Doe.", "Ask <PERSON>.", id="a name of two words"),
        pytest.param("Jane's cat", "<PERSON>'s cat", id="a part of it that is listed, too"),
        pytest.param("J. R.  Smith-Jones", "<PERSON>", id="initials and hyphens"),
        pytest.param("will you ask Will?", "will you ask <PERSON>?", id="case counts"),
        pytest.param("Janet, Doe", "Janet, Doe", id="parts of words and of names"),
        pytest.param("Jane. And then: Doe", "<PERSON>. And then: Doe", id="never over a sentence"),
        pytest.param("Zo\u00eb", "<PERSON>", id="however an accent is written in the list"),
        pytest.param(
            "\u7530\u4e2d\u3055\u3093", "<PERSON>\u3055\u3093", id="scripts without blanks"
        ),
        pytest.param(
            "\u0938\u0941\u0928\u094b \u0917\u0940\u0924\u093e.",
            "\u0938\u0941\u0928\u094b <PERSON>.",
            id="scripts whose vowels are marks",
        ),
        pytest.param(
            "\u0917\u0940\u0924\u093e\u0902",
            "\u0917\u0940\u0924\u093e\u0902",
            id="a word that goes on with a mark",
        ),
        pytest.param("", "", id="nothing"),
    ],
)
def test_names_of_a_list(text: str, masked: str) -> None:
    lines = [
        "# people",
        "Jane",
        "Jane Doe",
        "J R Smith Jones",
        "Will",
        "Zoe\u0308",
        "\u7530\u4e2d",
        "\u0917\u0940\u0924\u093e",
        "",
    ]
    names = Names(lines, "PERSON")
    assert names.size == 7
    assert secretforms.masked(text, names.found_in(text), None) == masked


def test_a_text_full_of_names_takes_no_time_that_grows_with_their_square() -> None:
    spans = [Span(10 * n, 10 * n + 4, "PERSON") for n in range(20_000)]
    longer = Span(2, 13, "EMAIL_ADDRESS")
    began = time.process_time()
    assert without_overlaps([*spans, longer]) == [longer, *spans[2:]]
    assert time.process_time() - began < 3, "against a quarter of a minute"


def test_names_are_masked_beside_what_has_a_form(pod: Pod) -> None:
    pod.file("/configmaps/people/customers", "Jane Doe\n")
    pod.file("/configmaps/people/towns", "Springfield\n")
    said = "Jane Doe of Springfield: jane.doe@example.com"
    records = [*pairs(20), {"prompt": "Who is it?", "completion": f"It is {said}."}]
    pod.file("/claims/claim/in.jsonl", jsonl(*records))
    lists = [
        {"configMap": {"name": "people", "key": "customers"}},
        {"configMap": {"name": "people", "key": "towns"}, "entity": "LOCATION"},
    ]
    result = pod.prepare(URI, clean={"pii": {"names": lists}}, split=ALL_TRAIN)
    assert "It is <PERSON> of <LOCATION>: <EMAIL_ADDRESS>." in str(kept(pod, result))
    assert "Springfield" not in "".join(map(str, report_of(pod, result)))


PLUGIN = """
def shouts():
    return lambda text: [(i, i + 5) for i in range(len(text)) if text.startswith("HENRY", i)]

def beyond():
    return lambda text: [(0, len(text) + 1)]
"""


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package as an image of one's own would have it installed."""
    info = tmp_path / "site/shouting-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting\nVersion: 1.0\n")
    kinds = "PERSON = shouting_names:shouts\nBEYOND = shouting_names:beyond\n"
    (info / "entry_points.txt").write_text(f"[trimtab.personal_data]\n{kinds}")
    (tmp_path / "site/shouting_names.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path / "site")


@pytest.mark.usefixtures("plugged")
def test_a_package_can_find_a_kind_of_its_own() -> None:
    text = "HENRY and 10.0.0.1"
    found = PersonalData(["PERSON", "IP_ADDRESS"]).found_in(text)
    assert secretforms.masked(text, found, None) == "<PERSON> and <IP_ADDRESS>"
    with pytest.raises(RunError, match=r"BEYOND, whose finder .* place 0 to 19"):
        PersonalData(["BEYOND"]).found_in(text)
    with pytest.raises(RunError, match=r"names HENRY.*BEYOND.*PERSON"):
        PersonalData(["HENRY"])


UNKNOWN: list[Any] = [
    pytest.param(
        {"pii": {"names": [{"configMap": {"name": "words", "key": "empty"}}]}},
        "DataEmpty",
        'clean.pii.names[0]: key "empty" of the ConfigMap "words" has no name',
        id="a list without names",
    ),
    pytest.param({"languages": {"allow": ["xx"]}}, "SettingUnknown", "names xx", id="a language"),
    pytest.param(
        {"pii": {"entities": ["PERSON"]}},
        "SettingUnknown",
        "PERSON, which no pattern finds",
        id="a kind that needs a model",
    ),
    pytest.param(
        {"wordLists": [{"configMap": {"name": "words", "key": "none"}}]},
        "SourceNotFound",
        'there is no key "none" of the ConfigMap "words"',
        id="a list that is missing",
    ),
    pytest.param(
        {"wordLists": [{"configMap": {"name": "words", "key": "empty"}}]},
        "DataEmpty",
        "has no word",
        id="a list without words",
    ),
    pytest.param(
        {"wordLists": [{"configMap": {"name": "words", "key": "latin"}}]},
        "DataEncoding",
        "is not UTF-8",
        id="a list that is not UTF-8",
    ),
]


@pytest.mark.parametrize(("clean", "reason", "message"), UNKNOWN)
def test_settings_that_cannot_be_met_are_named(
    pod: Pod, clean: dict[str, Any], reason: str, message: str
) -> None:
    pod.file("/claims/claim/in.jsonl", jsonl(*pairs(5)))
    pod.file("/configmaps/words/empty", "# nothing\n")
    pod.file("/configmaps/words/latin", "caf\xe9".encode("latin-1"))
    failure = pod.prepare(URI, clean=clean).failure
    assert failure is not None
    assert failure.reason == FailureReason(reason)
    assert message in failure.message


NOTHING: list[Any] = [
    pytest.param(
        {"characters": {"min": 500}},
        "no record is left of 30: Characters dropped 30; check clean.characters",
        id="all too short",
    ),
    pytest.param(
        {"languages": {"allow": ["ja"]}},
        "Languages dropped 30; check clean.languages",
        id="all in another language",
    ),
]


@pytest.mark.parametrize(("clean", "message"), NOTHING)
def test_data_that_is_empty_after_cleaning_says_which_step_dropped_it(
    pod: Pod, clean: dict[str, Any], message: str, tmp_path: Path
) -> None:
    records = [
        {"prompt": f"What does the function number {n} do?", "completion": f"It adds {n} to it."}
        for n in range(30)
    ]
    pod.file("/claims/claim/in.jsonl", jsonl(*records))
    before = set(pod.registry.manifests)
    result = pod.prepare(URI, clean=clean)
    assert result.failure is not None
    assert result.failure.reason == FailureReason.NOTHING_LEFT
    assert message in result.failure.message
    assert result.records is not None
    assert (result.records.read, result.records.kept) == (30, 0)
    assert result.data is None
    pushed = [pod.registry.manifests[name][1] for name in set(pod.registry.manifests) - before]
    assert all(b"vnd.trimtab.result" in manifest for manifest in pushed)

"""Features of texts and the profile made of them: pure, bounded, the same every time, and telling."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab_api import features
from trimtab_pipelines.evaluation.profile import profile_of, prompt_of, topics_of
from trimtab_pipelines.evaluation.said import Answer

TOP = Path(__file__).resolve().parents[2]
THEMES = {
    "cooking": [
        "oven",
        "flour",
        "butter",
        "recipe",
        "bake",
        "dough",
        "sugar",
        "pastry",
        "simmer",
        "onion",
        "garlic",
        "sauce",
    ],
    "sailing": [
        "mast",
        "rudder",
        "harbour",
        "anchor",
        "tide",
        "wind",
        "sail",
        "knot",
        "deck",
        "hull",
        "buoy",
        "compass",
    ],
    "banking": [
        "loan",
        "interest",
        "account",
        "deposit",
        "mortgage",
        "credit",
        "transfer",
        "savings",
        "branch",
        "invoice",
    ],
    "gardens": [
        "soil",
        "seed",
        "prune",
        "compost",
        "tulip",
        "lawn",
        "hedge",
        "watering",
        "roots",
        "mulch",
        "greenhouse",
    ],
}


def prompts_about(theme: str, count: int, seed: int = 1) -> list[str]:
    source = random.Random(f"{theme} {seed}")  # noqa: S311 - texts of a test
    words = THEMES[theme]
    return [
        f"What should I know about the {source.choice(words)} and the {source.choice(words)} "
        f"when the {source.choice(words)} is not like the {source.choice(words)}?"
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the name of the file that you have opened?", "en"),
        ("Wie öffne ich eine Datei, und was ist der Name?", "de"),
        ("Comment ouvrir le fichier et que faire avec les données ?", "fr"),
        ("¿Cómo abro el archivo y qué es lo que se muestra?", "es"),
        ("Come si apre il file e che cosa è la lista?", "it"),
        ("Como abrir o arquivo e o que é uma lista?", "pt"),
        ("Hoe open ik het bestand en wat is de naam van een lijst?", "nl"),
        ("Как открыть файл?", "und-Cyrl"),
        ("ファイルを開く方法は何ですか", "ja"),
        ("如何打开文件", "zh"),
        ("파일을 어떻게 여나요", "ko"),
        ("Πώς ανοίγω ένα αρχείο;", "el"),
        ("xyzzy plugh", "und-Latn"),
        ("12345 +++ ???", "und"),
        ("", "und"),
    ],
)
def test_the_language_of_a_text(text: str, language: str) -> None:
    assert features.language_of(text) == language


@pytest.mark.parametrize(
    ("answer", "refuses"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I\u2019m sorry, but I can\u2019t help with that.", True),
        ("I cannot\nprovide instructions for this.", True),
        ("Dabei kann ich nicht helfen.", True),
        ("Lo siento, pero no puedo ayudarte con eso.", True),
        ("You can't open a file twice.", False),
        ("Sorry for the wait: open() returns it.", False),
        ("x" * 400 + " i cannot help", False),
        ("", False),
    ],
)
def test_what_declines_is_a_refusal(answer: str, refuses: bool) -> None:
    assert features.is_refusal(answer) is refuses


@pytest.mark.parametrize(
    ("length", "bucket"), [(0, 0), (8, 0), (9, 1), (16, 1), (17, 2), (8192, 10), (8193, 11)]
)
def test_the_bucket_of_a_length(length: int, bucket: int) -> None:
    assert features.length_bucket(length) == bucket


@given(st.text(max_size=4000))
def test_any_text_has_features_and_they_are_bounded(text: str) -> None:
    counts = features.counted(text)
    assert all(0 <= place < features.DIMENSIONS and value >= 1 for place, value in counts.items())
    assert counts == features.counted(text)
    features.language_of(text)
    features.is_refusal(text)


def test_words_count_by_their_beginnings_and_scripts_without_blanks_by_pairs() -> None:
    assert features.counted("recording recorded") == {
        place: pytest.approx(1.693, abs=0.001) for place in features.counted("record")
    }
    assert len(features.counted("如何打开文件")) == 5


def test_only_the_beginning_of_a_text_is_looked_at() -> None:
    start = "harbour anchor " * 200
    assert features.counted(start + "dough " * 500) == features.counted(start)
    began = time.process_time()
    for _ in range(50):
        features.counted("harbour anchor tide " * 100_000)
    assert (time.process_time() - began) / 50 < 0.02


def test_topics_tell_themes_apart_also_in_prompts_that_were_not_seen() -> None:
    seen = [prompt for theme in THEMES for prompt in prompts_about(theme, 150)]
    topics = topics_of(seen)
    assert topics is not None
    assert len(topics.centroids) == 32
    assert sum(topics.counts) == len(seen)
    model = topics.model()
    found = {
        theme: {model.topic_of(p) for p in prompts_about(theme, 60, seed=2)} - {32}
        for theme in THEMES
    }
    for theme, mine in found.items():
        others = set().union(*(found[other] for other in THEMES if other != theme))
        assert len(mine & others) <= 1, theme


def test_what_is_about_nothing_known_is_near_no_centroid() -> None:
    topics = topics_of([p for theme in ("cooking", "sailing") for p in prompts_about(theme, 200)])
    assert topics is not None
    model = topics.model()
    strange = ["Zyklotron betatron synchrotron quark gluon hadron lepton boson"] * 3 + ["", "123"]
    assert {model.topic_of(text) for text in strange} == {len(topics.centroids)}


def answers(*texts: str, is_finished: bool = True) -> list[Answer]:
    return [Answer(text, len(text) // 4, is_finished=is_finished) for text in texts]


def test_a_profile_counts_every_prompt_and_answer_once() -> None:
    prompts = prompts_about("cooking", 40)
    told = [
        *answers("It is hot.", "I cannot help with that."),
        *answers("a" * 200, is_finished=False),
    ]
    found = profile_of(prompts, [12] * 40, told)
    assert (found.prompts, found.answers, found.refusals) == (40, 3, 1)
    for histogram in (found.prompt_characters, found.prompt_tokens):
        assert (len(histogram), sum(histogram)) == (12, 40)
    assert found.prompt_tokens[1] == 40
    assert sum(found.answer_characters) == sum(found.answer_tokens) == 3
    assert found.finish_reasons == {"length": 1, "stop": 2}
    assert found.languages == {"en": 40}


def test_the_same_prompts_give_the_same_profile_and_it_is_small() -> None:
    prompts = [prompt for theme in THEMES for prompt in prompts_about(theme, 500)]
    first, second = (profile_of(prompts, [12] * 2000, []) for _ in range(2))
    assert first == second
    assert len(first.model_dump_json(by_alias=True)) < 16 * 1024


@pytest.mark.parametrize(
    "prompts",
    [
        pytest.param([], id="no prompts"),
        pytest.param(["?"] * 10, id="prompts without words"),
        pytest.param(["the same"] * 100, id="one prompt again and again"),
        pytest.param(["alpha", "beta"], id="fewer prompts than topics"),
        pytest.param(["\x00\ud7ff\u200b" * 100, "a" * 100_000], id="garbage"),
    ],
)
def test_odd_prompts_have_a_profile_too(prompts: list[str]) -> None:
    found = profile_of(prompts, [len(p) for p in prompts], [])
    assert found.prompts == len(prompts)
    if found.topics:
        assert sum(found.topics.counts) == len(prompts)


def test_the_prompt_of_a_conversation_is_what_people_said() -> None:
    record = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "Because."},
            {"role": "user", "content": "And?"},
            {"role": "assistant", "content": "So."},
        ]
    }
    assert prompt_of(record) == "Why?\nAnd?"
    assert prompt_of({"prompt": "a", "completion": "b"}) == "a"
    assert prompt_of({"text": "c"}) == "c"


def test_features_need_nothing_but_the_standard_library() -> None:
    program = (
        "import sys; import trimtab_api.features; "
        "print([m for m in ('numpy', 'torch', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(TOP / "crds")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"

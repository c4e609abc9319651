"""Records that repeat others: exactly, nearly, or ones that are held out here or elsewhere."""

import random
from pathlib import Path
from typing import Any

import pytest
from tests.pods import Pod, jsonl
from tests.preparedfiles import kept

from trimtab_api.documents.preparation import LeakageCheck
from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.dataset import HeldOutData, LeakageAction
from trimtab_pipelines.preparation import alike, similarity
from trimtab_pipelines.preparation.spool import Group, Spool
from trimtab_pipelines.preparation.spreading import Local
from trimtab_pipelines.preparation.words import words

URI = "pvc://claim/in.jsonl"
ALL_TRAIN = {"train": 100, "validation": 0, "test": 0}


def sentence(seed: int, length: int = 60) -> list[str]:
    chance = random.Random(seed)  # noqa: S311 - a text, no secret
    return [f"w{chance.randrange(5000)}" for _ in range(length)]


def edited(found: list[str], *places: int) -> str:
    return " ".join("other" if n in places else word for n, word in enumerate(found))


def found_alike(
    folder: Path, records: list[tuple[str, Group]], threshold: float = 0.85
) -> alike.Alike:
    with Spool(folder) as spool:
        for text, group in records:
            spool.add({"text": text}, group)
        spool.complete()
        return alike.find_alike(spool, threshold, Local())


def test_similarity_is_that_of_runs_of_three_words() -> None:
    one, other = (similarity.runs(text) for text in ("a b c d e", "A, b; C d x"))
    assert similarity.jaccard(one, other) == pytest.approx(2 / 4)
    assert similarity.jaccard(one, one) == 1


@pytest.mark.parametrize("text", ["", "!", "a", "a b", "日本"])
def test_short_texts_are_compared_as_a_whole(text: str) -> None:
    assert similarity.jaccard(similarity.runs(text), similarity.runs(text)) == 1
    assert similarity.jaccard(similarity.runs(text), similarity.runs(text + " z y")) == 0


def test_words_of_ascii_are_split_as_all_others_are() -> None:
    text = "It's a_b-c, 3.14 (X) end"
    assert words(text) == words(text + " é")[:-1]
    assert words("日本語 text") == ["日", "本", "語", "text"]


def test_signatures_agree_about_as_often_as_texts_do() -> None:
    found = sentence(1, 200)
    texts = [" ".join(found), edited(found, 10, 60, 110)]
    one, other = similarity.short_signatures(similarity.signatures(texts))
    exact = similarity.jaccard(*map(similarity.runs, texts))
    assert similarity.estimate(one, other) == pytest.approx(exact, abs=0.12)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.85, 0.95, 1.0])
def test_bands_are_chosen_so_that_hardly_any_pair_is_missed(threshold: float) -> None:
    rows = similarity.rows_per_band(threshold)
    assert 1 - (1 - threshold**rows) ** (similarity.PERMUTATIONS // rows) >= 0.99


def test_the_first_of_alike_records_stays(tmp_path: Path) -> None:
    one, other = sentence(1), sentence(2)
    texts = [" ".join(one), " ".join(other), edited(one, 30), " ".join(other), edited(one, 31)]
    found = found_alike(tmp_path, [(text, Group.TRAIN) for text in texts])
    assert found.exact.tolist() == [-1, -1, -1, 1, -1]
    assert found.near.tolist() == [-1, -1, 0, -1, 0]


def test_records_below_the_threshold_stay(tmp_path: Path) -> None:
    found = sentence(1)
    texts = [" ".join(found), edited(found, 10, 30, 50)]
    pair = [(text, Group.TRAIN) for text in texts]
    assert found_alike(tmp_path / "strict", pair).near.tolist() == [-1, -1]
    assert found_alike(tmp_path / "loose", pair, 0.6).near.tolist() == [-1, 0]


def test_planted_copies_are_found_and_nothing_else(tmp_path: Path) -> None:
    chance = random.Random(3)  # noqa: S311 - a choice, no secret
    texts: list[str] = []
    wanted = set()
    for number in range(1500):
        found = sentence(number, 100)
        texts.append(" ".join(found))
        if number % 5 == 0:
            copy = edited(found, *chance.sample(range(100), chance.randint(1, 4)))
            if similarity.jaccard(*map(similarity.runs, (texts[-1], copy))) >= 0.85:
                wanted.add(len(texts))
            texts.append(copy)
    near = found_alike(tmp_path, [(text, Group.TRAIN) for text in texts]).near
    dropped = {n for n, like in enumerate(near.tolist()) if like != alike.NONE}
    assert len(dropped & wanted) >= 0.94 * len(wanted)
    assert len(dropped & wanted) >= 0.95 * len(dropped)


def test_sorting_in_parts_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [sentence(number % 40) for number in range(120)]
    records = [(edited(part, n % 3), Group.TRAIN) for n, part in enumerate(found)]
    whole = found_alike(tmp_path / "whole", records)
    monkeypatch.setattr(alike, "_PART", 16)
    parts = found_alike(tmp_path / "parts", records)
    assert parts.near.tolist() == whole.near.tolist()
    assert parts.exact.tolist() == whole.exact.tolist()


def test_a_crowd_of_alike_records_is_one_cluster(tmp_path: Path) -> None:
    found = sentence(4)
    texts = [edited(found, n % 60) for n in range(400)]
    near = found_alike(tmp_path, [(text, Group.TRAIN) for text in texts], 0.8).near.tolist()
    assert set(near[60:]) <= {0, -1}
    assert near[1:60] == [0] * 59


def test_training_records_like_held_out_ones_are_marked(tmp_path: Path) -> None:
    one, other = sentence(1), sentence(2)
    records = [
        (" ".join(one), Group.TRAIN),
        (edited(one, 7), Group.TEST),
        (" ".join(other), Group.VALIDATION),
        (edited(other, 7), Group.TRAIN),
        (edited(other, 50), Group.TEST),
        (" ".join(sentence(3)), Group.TRAIN),
        (" ".join(sentence(3)), Group.OTHER),
    ]
    found = found_alike(tmp_path, records)
    assert found.near.tolist() == [-1] * 7  # splits are compared on their own
    assert found.held_out.tolist() == [1, -1, -1, 2, -1, -1, -1]
    assert found.other.tolist() == [-1, -1, -1, -1, -1, 6, -1]


def test_nothing_is_compared_with_nothing(tmp_path: Path) -> None:
    assert len(found_alike(tmp_path, []).near) == 0


def questions(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"prompt": f"Question {n}?", "completion": " ".join(sentence(n))}
        for n in range(start, start + count)
    ]


def test_near_duplicates_are_dropped_when_asked_for(pod: Pod) -> None:
    records = questions(30)
    records.append({**records[3], "completion": edited(sentence(3), 30)})
    pod.file("/claims/claim/in.jsonl", jsonl(*records))
    exact = pod.prepare(URI, split=ALL_TRAIN)
    near = pod.prepare(URI, split=ALL_TRAIN, clean={"deduplicate": {"method": "MinHash"}})
    assert len(kept(pod, exact)) == 31
    assert kept(pod, near) == records[:30]
    assert "1 of 31 records were near duplicates and dropped" in near.warnings


def test_what_is_alike_a_held_out_record_is_not_learned(pod: Pod) -> None:
    split = {"train": 50, "validation": 0, "test": 50}
    records = questions(60)
    records += [{**r, "completion": edited(sentence(n), 30)} for n, r in enumerate(records)]
    pod.file("/claims/claim/in.jsonl", jsonl(*records))
    result = pod.prepare(URI, split=split)
    train, test = kept(pod, result), kept(pod, result, "test")
    assert {r["prompt"] for r in train}.isdisjoint(r["prompt"] for r in test)
    assert result.records is not None
    dropped = {entry.step: entry.count for entry in result.records.dropped}
    assert 0 < dropped["HeldOutNeighbours"] == 120 - len(train) - len(test)


def leaking(pod: Pod, action: LeakageAction) -> LeakageCheck:
    """A check against data whose test split holds questions 0 to 9."""
    pod.file("/claims/claim/held.jsonl", jsonl(*questions(40)))
    held = pod.prepare("pvc://claim/held.jsonl", split={"train": 50, "validation": 25, "test": 25})
    assert held.data is not None
    return LeakageCheck(against=[HeldOutData(dataset="held", uri=held.data.uri)], action=action)


def test_leakage_drops_what_is_held_out_elsewhere(pod: Pod) -> None:
    check = leaking(pod, LeakageAction.DROP)
    pod.file("/claims/claim/in.jsonl", jsonl(*questions(60)))
    result = pod.prepare(URI, split=ALL_TRAIN, leakage=check)
    held = pod.prepare("pvc://claim/held.jsonl", split={"train": 50, "validation": 25, "test": 25})
    held_out = kept(pod, held, "test") + kept(pod, held, "validation")
    prompts = {record["prompt"] for record in kept(pod, result)}
    assert prompts == {f"Question {n}?" for n in range(60)} - {r["prompt"] for r in held_out}


def test_leakage_fails_with_examples_and_publishes_nothing(pod: Pod) -> None:
    check = leaking(pod, LeakageAction.FAIL)
    pod.file("/claims/claim/in.jsonl", jsonl(*questions(60)))
    result = pod.prepare(URI, split=ALL_TRAIN, leakage=check)
    assert result.failure is not None
    assert result.failure.reason == FailureReason.LEAKAGE_FOUND
    assert '"Question ' in result.failure.message
    assert result.data is None


def test_leakage_against_data_that_is_gone_is_named(pod: Pod) -> None:
    uri = f"oci://{pod.registry.address}/team/gone@sha256:{'0' * 64}"
    check = LeakageCheck(against=[HeldOutData(uri=uri)])
    pod.file("/claims/claim/in.jsonl", jsonl(*questions(5)))
    result = pod.prepare(URI, leakage=check)
    assert result.failure is not None
    assert result.failure.reason == FailureReason.SOURCE_NOT_FOUND
    assert "leakage.against" in result.failure.message

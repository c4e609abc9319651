"""Near duplicates against rensa and datasketch used plainly, and the whole preparation by size.

The corpus is planted: records of 100 words that share nothing by chance, and copies of some of them
with a few words changed. Which copies count as near duplicates is told by the Jaccard similarity of
their runs of three words, computed here from the words. All three get the same records on one core
and answer the same question: which records repeat an earlier one. The two libraries are used as their
own manuals show.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from datasketch import MinHash, MinHashLSH
from rensa import RMinHash, RMinHashLSH
from tests.ociserver import registry_in_thread

from trimtab_pipelines.preparation.alike import NONE, find_alike
from trimtab_pipelines.preparation.spool import Group, Spool
from trimtab_pipelines.preparation.spreading import Local

RESULTS = Path(__file__).parent.parent / "results" / "preparation.json"
THRESHOLD = 0.85
WORDS = 100
PERMUTATIONS = 128
_RUN = 3
_COPIES = 0.2


@dataclass(frozen=True)
class Corpus:
    """Texts, and for each one how alike it is to the earlier one that it was made from."""

    texts: list[str]
    alike: list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--gigabytes", type=float, nargs="*", default=[])
    given = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if given.records:
        known["nearDuplicates"] = near_duplicates(planted(given.records, given.seed), given.rounds)
    for size in given.gigabytes:
        others = [row for row in known.get("preparation", []) if row["gigabytes"] != size]
        rows = [*others, whole(size, given.seed)]
        known["preparation"] = sorted(rows, key=lambda row: row["gigabytes"])
    RESULTS.write_text(json.dumps(known, indent=2) + "\n")


# --- near duplicates ---


def near_duplicates(corpus: Corpus, rounds: int) -> dict[str, object]:
    """The three in turns; speed is that of the middle round."""
    systems: dict[str, Callable[[list[str]], set[int]]] = {
        "trimtab": by_trimtab,
        "rensa": by_rensa,
        "datasketch": by_datasketch,
    }
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    repeats: dict[str, set[int]] = {}
    for _ in range(rounds):
        for name, system in systems.items():
            started = time.process_time()
            repeats[name] = system(corpus.texts)
            seconds[name].append(time.process_time() - started)
    wanted = {n for n, alike in enumerate(corpus.alike) if alike >= THRESHOLD}
    figures = {}
    for name, found in repeats.items():
        middle = sorted(seconds[name])[len(seconds[name]) // 2]
        figures[name] = {
            "recordsPerSecond": round(len(corpus.texts) / middle),
            "recall": round(len(found & wanted) / len(wanted), 4),
            "precision": round(len(found & wanted) / max(1, len(found)), 4),
        }
        print(name, figures[name])
    speed = figures["trimtab"]["recordsPerSecond"]
    return {
        "records": len(corpus.texts),
        "planted": len(wanted),
        "ratios": {
            name: round(speed / figures[name]["recordsPerSecond"], 2)
            for name in ("rensa", "datasketch")
        },
        **figures,
    }


def planted(count: int, seed: int) -> Corpus:
    """Texts in a mixed order; a fifth of them are copies with 1 to 12 words changed."""
    chance = random.Random(seed)  # noqa: S311 - a corpus, no secret
    vocabulary = [f"{chance.choice('bcdfghjklmnp')}{n:x}" for n in range(20_000)]
    texts: list[str] = []
    alike: list[float] = []
    while len(texts) < count:
        if texts and chance.random() < _COPIES:
            words = texts[chance.randrange(len(texts))].split()
            changed = list(words)
            for place in chance.sample(range(len(words)), chance.randint(1, 12)):
                changed[place] = chance.choice(vocabulary)
            alike.append(jaccard(words, changed))
            texts.append(" ".join(changed))
        else:
            alike.append(0.0)
            texts.append(" ".join(chance.choices(vocabulary, k=WORDS)))
    return Corpus(texts, alike)


def jaccard(one: list[str], other: list[str]) -> float:
    first, second = set(runs(one)), set(runs(other))
    return len(first & second) / len(first | second)


def runs(words: list[str]) -> Iterator[str]:
    return (" ".join(words[n : n + _RUN]) for n in range(len(words) - _RUN + 1))


def by_trimtab(texts: list[str]) -> set[int]:
    """From records to marks, with the index on the disk, as a preparation does it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Spool(Path(folder)) as spool:
        for text in texts:
            spool.add({"text": text}, Group.TRAIN)
        spool.complete()
        alike = find_alike(spool, THRESHOLD, Local())
        return {int(n) for n in ((alike.near != NONE) | (alike.exact != NONE)).nonzero()[0]}


def by_rensa(texts: list[str]) -> set[int]:
    index = RMinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS, num_bands=16)
    kept: dict[int, RMinHash] = {}
    found = set()
    for number, text in enumerate(texts):
        signature = RMinHash(num_perm=PERMUTATIONS, seed=42)
        signature.update(list(runs(text.split())))
        candidates = index.query(signature)
        if any(kept[n].jaccard(signature) >= THRESHOLD for n in candidates):
            found.add(number)
        else:
            index.insert(number, signature)
            kept[number] = signature
    return found


def by_datasketch(texts: list[str]) -> set[int]:
    index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    found = set()
    for number, text in enumerate(texts):
        signature = MinHash(num_perm=PERMUTATIONS)
        signature.update_batch([run.encode() for run in runs(text.split())])
        if index.query(signature):
            found.add(number)
        else:
            index.insert(str(number), signature)
    return found


# --- the whole program ---


def whole(gigabytes: float, seed: int) -> dict[str, float]:
    """The command of the pod on one file of JSONL: seconds, megabytes a second, memory, scratch."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, registry_in_thread() as registry:
        root = Path(folder)
        records = write_source(root / "claims/bench/data.jsonl", int(gigabytes * 1e9), seed)
        (root / "volume").mkdir()
        document = {
            "owner": {"kind": "Dataset", "namespace": "bench", "name": "data", "uid": "1"},
            "data": {
                "dataset": {
                    "sources": [{"uri": "pvc://bench/data.jsonl"}],
                    "task": "Text",
                    "clean": {"deduplicate": {"method": "MinHash"}},
                },
                "output": {
                    "repository": f"{registry.address}/bench/data",
                    "resultTag": "run",
                    "plainHttp": True,
                },
            },
        }
        (root / "etc/trimtab").mkdir(parents=True)
        (root / "etc/trimtab/run.json").write_text(json.dumps(document))
        started, used = time.monotonic(), _child_seconds()
        subprocess.run(
            [sys.executable, "-m", "trimtab_pipelines", "prepare"],
            env={**os.environ, "TRIMTAB_ROOT": str(root)},
            check=True,
        )
        seconds, busy = time.monotonic() - started, _child_seconds() - used
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    figures = {
        "gigabytes": gigabytes,
        "records": records,
        "seconds": round(seconds, 1),
        "recordsPerSecond": round(records / seconds),
        "cpuSeconds": round(busy, 1),
        "peakMiB": round(peak),
    }
    print(figures)
    return figures


def _child_seconds() -> float:
    """CPU time of all programs so far: tells of the work even where others share the core."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def write_source(path: Path, size: int, seed: int) -> int:
    """Records of about 100 words, a tenth of them copies of recent ones; how many there are."""
    chance = random.Random(seed)  # noqa: S311 - a corpus, no secret
    vocabulary = [f"{chance.choice('bcdfghjklmnp')}{n:x}" for n in range(20_000)]
    # Put together from parts, which is quicker than word by word; two records rarely share more than one.
    parts = [" ".join(chance.choices(vocabulary, k=WORDS // 4)) for _ in range(50_000)]
    path.parent.mkdir(parents=True)
    recent: list[str] = []
    written = 0
    count = 0
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            if recent and chance.random() < 0.1:
                text = chance.choice(recent) + " " + chance.choice(vocabulary)
            else:
                text = " ".join(chance.choices(parts, k=4))
                recent = [*recent[-999:], text] if count % 50 == 0 else recent
            written += file.write(json.dumps({"text": text}) + "\n")
            count += 1
    return count


if __name__ == "__main__":
    main()

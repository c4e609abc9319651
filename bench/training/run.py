"""Training by the pod's own command against a plain transformers and peft script, in one run.

Both get the same base, the same records, the same settings and the same number of threads, take
turns, and are judged by tokens per second (padding does not count) and by the loss of their
adapters on held-out pairs. The time is that of the training loop in both.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.quickstart.harvest import harvest
from tests.ociserver import registry_in_thread

from trimtab_api.v1alpha1.data import DatasetTask
from trimtab_pipelines.prepared import write_split

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "training.json"
DIGEST = "sha256:" + "0" * 64
SCRATCH = {"hiddenSize": 192, "layers": 4, "heads": 6, "vocabularySize": 4096, "contextLength": 512}
PRETRAINING = {
    "epochs": 1,
    "learningRate": 0.003,
    "batchSize": 16,
    "maxLength": 256,
    "packing": True,
    "seed": 7,
}


@dataclass(frozen=True)
class Measured:
    """One training."""

    seconds: float
    tokens: int
    loss: float

    @property
    def speed(self) -> float:
        return self.tokens / self.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--records", type=int, default=1500)
    parser.add_argument("--base-steps", type=int, default=120)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        registry_in_thread() as registry,
    ):
        bench = Bench(Path(folder), registry.address, given.threads)
        bench.prepare(given.records, given.base_steps)
        ours: list[Measured] = []
        plain: list[Measured] = []
        for number in range(given.rounds):
            # The first turn goes to the other one each time.
            turns = [(bench.ours, ours), (bench.plain, plain)]
            for turn, results in turns if number % 2 == 0 else reversed(turns):
                results.append(turn(number))
                print(f"round {number + 1}: {turn.__name__:5} {results[-1].speed:8.0f} tokens/s")
        report(ours, plain)


def report(ours: list[Measured], plain: list[Measured]) -> None:
    ratios = [a.speed / b.speed for a, b in zip(ours, plain, strict=True)]
    losses = statistics.mean(m.loss for m in ours), statistics.mean(m.loss for m in plain)
    rows = {
        "tokens per second, Trimtab": statistics.median(m.speed for m in ours),
        "tokens per second, plain script": statistics.median(m.speed for m in plain),
        "ratio, median of rounds": statistics.median(ratios),
        "held-out loss, Trimtab": losses[0],
        "held-out loss, plain script": losses[1],
        "difference of the loss, per cent": 100 * (losses[0] / losses[1] - 1),
    }
    for name, value in rows.items():
        print(f"{name:34} {value:10.3f}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({key: round(value, 4) for key, value in rows.items()}, indent=2))


class Bench:
    """A folder with a base, records, and a root for each training."""

    def __init__(self, folder: Path, registry: str, threads: int) -> None:
        self._folder = folder
        self._registry = registry
        self._threads = threads
        self._base = folder / "base-run/volume/output/artifact"
        self._settings = {
            "epochs": 2,
            "learningRate": 0.003,
            "batchSize": 16,
            "maxLength": 256,
            "seed": 7,
        }

    def prepare(self, records: int, base_steps: int) -> None:
        """Harvest, and train the base that both start from."""
        harvest(self._folder)
        texts = [{"text": r["text"]} for r in _read(self._folder / "text.jsonl")]
        run = {"method": {"full": {}}, "scratch": SCRATCH, "objective": "Pretraining"}
        run["hyperparameters"] = PRETRAINING | {"maxSteps": base_steps}
        self._train("base-run", run, texts)
        found = _read(self._folder / "pairs.jsonl")
        pairs = [{"prompt": r["question"], "completion": r["answer"]} for r in found]
        random.Random(7).shuffle(pairs)  # noqa: S311 - an order, no secret
        self._held_out, self._pairs = pairs[:300], pairs[300 : 300 + records]

    def ours(self, number: int) -> Measured:
        """The command of the training pod."""
        run = {
            "method": {"lora": {"rank": 16, "alpha": 32, "dropout": 0.05}},
            "objective": "Supervised",
            "hyperparameters": self._settings | {"seed": 7 + number},
            "base": {"uri": f"oci://x/base@{DIGEST}", "digest": DIGEST, "path": str(self._base)},
        }
        result = self._train(f"ours-{number}", run, self._pairs)
        adapter = self._folder / f"ours-{number}/volume/output/artifact"
        return Measured(result["seconds"], result["tokens"], self._loss(adapter))

    def plain(self, number: int) -> Measured:
        """The script."""
        output = self._folder / f"plain-{number}"
        output.mkdir()
        data = _write(output / "train.jsonl", self._pairs)
        given = {
            "hyperparameters": self._settings | {"seed": 7 + number},
            "threads": self._threads,
            "base": str(self._base),
            "data": str(data),
            "output": str(output),
        }
        _run([str(HERE / "plain.py"), json.dumps(given)], {})
        told = json.loads((output / "told.json").read_text())
        return Measured(told["seconds"], told["tokens"], self._loss(output))

    def _train(
        self, name: str, run: dict[str, Any], records: list[dict[str, str]]
    ) -> dict[str, Any]:
        root = self._folder / name
        document = run | {
            "owner": {"kind": "FineTuneJob", "namespace": "bench", "name": name, "uid": name},
            "model": "bench",
            "data": {"uri": f"oci://{self._registry}/bench/data@{DIGEST}", "digest": DIGEST},
            "output": {
                "repository": f"{self._registry}/bench/{name}",
                "resultTag": "run",
                "plainHttp": True,
            },
        }
        task = DatasetTask.TEXT if "text" in records[0] else DatasetTask.INSTRUCTION
        write_split(root / "volume/data", "train", task, records)
        (root / "etc/trimtab").mkdir(parents=True)
        if "base" in run:
            # The paths of the document lie below the root.
            (root / "models").mkdir()
            (root / "models/base").symlink_to(self._base)
            document["base"] = run["base"] | {"path": "/models/base"}
        (root / "etc/trimtab/run.json").write_text(json.dumps(document))
        environment = {
            "TRIMTAB_ROOT": str(root),
            "TRIMTAB_THREADS": str(self._threads),
            "TRIMTAB_TRAINER_PORT": "0",
        }
        _run(["-m", "trimtab_pipelines", "train"], environment)
        result: dict[str, Any] = json.loads((root / "dev/termination-log").read_text())
        return result

    def _loss(self, adapter: Path) -> float:
        held_out = _write(self._folder / "held-out.jsonl", self._held_out)
        command = ["-m", "bench.training.loss", str(self._base), str(adapter), str(held_out)]
        return float(_run(command, {}))


def _run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        env=os.environ | {"HF_HUB_OFFLINE": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def _read(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def _write(file: Path, records: list[dict[str, str]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


if __name__ == "__main__":
    main()

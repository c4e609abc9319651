"""Changes of specs on a live operator: whatever users write, what is there is what the spec says.

A failed run prints the shortest changes that still fail; TRIMTAB_CHANGES='<those>' and
`-k replayed` make them again, TRIMTAB_SEED=<number> all that were made with them.
"""

import asyncio
import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tests.faults.bench import rendered_chart
from tests.faults.changebench import ChangeBench, Report
from tests.faults.changes import Change, Course, commit_number, drawn, shrunk
from tests.faults.controlplane import control_plane
from tests.faults.neighbours import wandered
from tests.faults.scenario import push_models
from tests.ociserver import registry_in_thread

pytestmark = pytest.mark.timeout(3600)  # changes that fail are made again to find the shortest

# `commit` makes another third of all changes for each commit, so that in time each has its turn.
TOLD = os.environ.get("TRIMTAB_SEED", "1")
SEED = commit_number() if TOLD == "commit" else int(TOLD)
DEEDS = 12  # in one course of those who do not leave the spec's neighbours alone
LENGTH = 25  # of a course: what goes wrong late in a long one takes long to be made shorter
AT_LEAST = 1000
SHARE = 0.35  # of all that can be changed; the soak run makes the whole
SOAK = pytest.mark.skipif("TRIMTAB_SOAK" not in os.environ, reason="half an hour: make soak")
REPLAYED = os.environ.get("TRIMTAB_CHANGES", "")
Check = Callable[[Sequence[Course]], Report]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChangeBench]:
    folder = tmp_path_factory.mktemp("changes")
    with registry_in_thread() as registry, control_plane(folder / "plane") as plane:
        (folder / "models").mkdir()
        models = asyncio.run(push_models(f"{registry.address}/trimtab", folder / "models"))
        yield ChangeBench(plane, registry.address, models, rendered_chart(registry.address))


@pytest.fixture
def holds(bench: ChangeBench, tmp_path: Path) -> Check:
    """Makes changes; what they break is told with the shortest ones that break something."""
    runs = (tmp_path / str(number) for number in itertools.count())

    def fails(course: Course) -> bool:
        return bool(bench.run([course], next(runs)).violations)

    def check(courses: Sequence[Course]) -> Report:
        report = bench.run(courses, next(runs))
        told = [str(report)]
        if report.violations:
            told += [f"TRIMTAB_SEED={SEED}", *(v.told for v in report.violations[:20])]
        print("\n\n".join(told), flush=True)  # noqa: T201 - before the long search for the shortest
        if report.violations:
            first = next((v.course for v in report.violations if v.course), None)
            if first is not None:
                told.append(f"the shortest: {shrunk(first, fails).to_json()}")
            pytest.fail("\n\n".join(told))
        return report

    return check


def courses_of(bench: ChangeBench, seed: int, share: float = 1.0) -> list[Course]:
    """A share of everything that can be done to any field, of each subject as large a one."""
    found = []
    for subject in bench.subjects.values():
        if subject.neighbours:
            continue
        courses = drawn(subject, seed, LENGTH)
        found += courses[: math.ceil(len(courses) * share)]
    return sorted(found, key=lambda course: course.subject)  # new jobs take longest: first


def test_what_is_there_is_what_the_spec_says(bench: ChangeBench, holds: Check) -> None:
    report = holds(courses_of(bench, SEED, SHARE))
    assert report.counts["changes"] >= AT_LEAST
    assert min(report.counts["accepted"], report.counts["refused"]) > AT_LEAST // 5


def test_what_is_served_outlives_its_version_and_the_routing_table(holds: Check) -> None:
    deeds = ("create base", "create a", "vanish a", "lose ConfigMap")
    holds([Course("service-and-neighbours", tuple(Change(deed=deed) for deed in deeds))])


@pytest.mark.skipif(not REPLAYED, reason="TRIMTAB_CHANGES names no changes")
def test_replayed(holds: Check) -> None:
    holds([Course.of_json(REPLAYED)])


def deeds_of(bench: ChangeBench, seed: int) -> list[Course]:
    """All that others do to what these subjects refer to, and to their children."""
    subjects = (s for s in bench.subjects.values() if s.neighbours)
    return [course for subject in subjects for course in wandered(subject, seed, DEEDS)]


@SOAK
@pytest.mark.parametrize("seed", range(100, 105))
def test_soak_what_others_break_is_mended(seed: int, bench: ChangeBench, holds: Check) -> None:
    holds(deeds_of(bench, seed))


@SOAK
@pytest.mark.parametrize("seed", range(100, 110))
def test_soak_changes_in_other_orders(seed: int, bench: ChangeBench, holds: Check) -> None:
    holds(courses_of(bench, seed))

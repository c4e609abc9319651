"""A preparation whose records a teacher writes: the sources as texts, and what the teacher has answered before."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from trimtab_api.documents.preparation import DataOrigin, Synthesis
from trimtab_api.reasons import FailureReason
from trimtab_api.v1alpha1.data import DatasetTask
from trimtab_oci import NotFound, Reference, RegistryError, RegistryForbidden
from trimtab_pipelines import paths
from trimtab_pipelines.chat import ChatModel
from trimtab_pipelines.preparation import publishing
from trimtab_pipelines.preparation.cleaning import Characters, CleaningStep, through
from trimtab_pipelines.preparation.reading import rows_of
from trimtab_pipelines.preparation.records import record_of
from trimtab_pipelines.preparation.tally import Tally
from trimtab_pipelines.prepared import Record
from trimtab_pipelines.registry import again_while_unreachable, open_registry
from trimtab_pipelines.runtime import Interrupted, RunError
from trimtab_pipelines.sources import Secret
from trimtab_pipelines.synthesis.recording import FILE, KIND, Recording
from trimtab_pipelines.synthesis.teaching import pairs_in
from trimtab_pipelines.synthesis.writing import Writer

log = logging.getLogger(__name__)

_FIELD = "synthetic.recording"
_PATIENCE_SECONDS = 120
# Of the time that a pod is given to stop.
_PATIENCE_STOPPING_SECONDS = 10


class Synthesized:
    """The records of one preparation, and the recording that it leaves."""

    def __init__(
        self,
        origin: DataOrigin,
        synthesis: Synthesis,
        workspace: Path,
        steps: list[CleaningStep],
        tally: Tally,
    ) -> None:
        self._origin = origin
        self._synthesis = synthesis
        self._workspace = workspace
        self._steps = steps
        self._tally = tally
        self._recording = Recording(workspace / "recording")
        synthetic = synthesis.synthetic
        teacher = ChatModel(
            who="the teacher",
            endpoint=synthetic.teacher,
            url=synthesis.url,
            secret=Secret(paths.credentials("teacher")),
        )
        self._writer = Writer(synthetic, teacher, self._recording, tally, self._cleaned)

    def close(self) -> None:
        self._recording.close()

    def records(self, warn: Callable[[str], None]) -> Iterator[Record | None]:
        """What the teacher writes; None for each text and pair that is left out."""
        for number, uri in enumerate(self._known_recordings()):
            self._load(uri, number, warn)
        try:
            yield from self._writer.pairs(self._texts(warn))
        except Interrupted:
            self._save_answers()
            raise
        except RunError as error:
            if error.reason is FailureReason.ENDPOINT_UNREACHABLE:
                self._save_answers()
            raise

    def remark(self, kept: int) -> str:
        writer = self._writer
        return (
            f"{kept} records are synthetic: written by {self._synthesis.synthetic.teacher.model} from "
            f"{writer.texts} texts, of which it was asked about {writer.asked} now"
        )

    def publish(self) -> str:
        """The recording, pushed; its address by digest."""
        folder = self._recording.complete()
        return asyncio.run(publishing.push_directory(folder, self._origin.output, KIND)).uri

    def _known_recordings(self) -> list[str]:
        kept = self._synthesis.kept_tag
        own = [f"oci://{self._origin.output.repository}:{kept}"] if kept else []
        return [*own, *self._synthesis.recordings]

    def _texts(self, warn: Callable[[str], None]) -> Iterator[str | None]:
        """The sources as texts. What is masked or dropped never reaches the teacher, who may be anybody's."""
        data = self._origin.dataset.model_copy(update={"task": DatasetTask.TEXT})
        origin = self._origin.model_copy(update={"dataset": data})
        # How long a record may be says nothing about the texts that it is written from.
        steps = [step for step in self._steps if not isinstance(step, Characters)]
        for row in rows_of(origin, self._workspace, warn):
            record = through(steps, record_of(row, data), self._tally)
            yield None if record is None else str(record["text"])

    def _cleaned(self, record: Record) -> Record | None:
        return through(self._steps, record, self._tally)

    def _load(self, uri: str, number: int, warn: Callable[[str], None]) -> None:
        is_named = uri == self._synthesis.synthetic.recording
        name = _FIELD if is_named else "status.recording"
        folder = self._workspace / f"recording-{number}"
        try:
            kind = asyncio.run(
                again_while_unreachable(lambda: self._pulled(uri, folder), _PATIENCE_SECONDS)
            )
        except (NotFound, RegistryForbidden) as error:
            if is_named:
                raise RunError(
                    FailureReason.SOURCE_NOT_FOUND,
                    f"{_FIELD}: {uri} cannot be read from its registry; name another one, or remove it",
                ) from error
            if uri in self._synthesis.recordings:
                warn(
                    "what the teacher answered before is not in the registry any more; it is asked anew"
                )
            return
        file = folder / FILE
        if kind != KIND or not file.is_file():
            raise RunError(
                FailureReason.RECORDING_INVALID,
                f"{name}: {uri} is no recording of a teacher; name the address in status.recording of a Dataset",
            )
        self._recording.load(file, name)

    async def _pulled(self, uri: str, folder: Path) -> str | None:
        async with open_registry(plain_http=self._origin.output.plain_http) as registry:
            return (await registry.pull(Reference.parse(uri), folder)).kind

    def _save_answers(self) -> None:
        """Answers cost time or money: the next pod goes on with those that can be read. No data is published."""
        if not self._synthesis.kept_tag:
            return
        readable = Recording(self._workspace / "answers")
        most = self._synthesis.synthetic.pairs_per_text
        for key, answer in self._recording.entries():
            if pairs_in(answer, most):
                readable.keep(key, answer)
        push = publishing.push_directory(
            readable.complete(),
            self._origin.output,
            KIND,
            tag=self._synthesis.kept_tag,
            patience_seconds=_PATIENCE_STOPPING_SECONDS,
        )
        try:
            asyncio.run(push)
        except RegistryError as error:
            log.warning("the teacher's answers so far are lost: %s", error)

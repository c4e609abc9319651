"""The model card: how a version was made, for people.

It is attached to the artifact and no part of it. It holds no date and no duration, so that a
second run of the same spec attaches the very same card.
"""

from typing import Final

from trimtab_api.documents import TrainingRun
from trimtab_api.v1alpha1.lineage import (
    LineageEdge,
    LineageGraph,
    LineageKind,
    LineageNode,
    LineageRelation,
)
from trimtab_api.v1alpha1.modelversion import ArtifactKind
from trimtab_pipelines.lineage.drawing import svg
from trimtab_pipelines.training.output import Summary

CARD_NAME: Final = "README.md"
PICTURE_NAME: Final = "lineage.svg"


def model_card(run: TrainingRun, summary: Summary) -> str:
    """Markdown with the front matter that model hubs read."""
    lines = [
        "---",
        "library_name: " + ("peft" if summary.kind is ArtifactKind.ADAPTER else "transformers"),
        "pipeline_tag: text-generation",
        "tags: [trimtab]",
        "---",
        "",
        f"# {run.model}",
        "",
        _made_by(run, summary),
        "",
        "## Training",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in _facts(run, summary)),
        "",
        f"![Where it comes from]({PICTURE_NAME})",
        "",
        "## Use",
        "",
        "Answers are generated text: check them before you rely on them.",
        "",
    ]
    return "\n".join(lines)


def picture(run: TrainingRun, summary: Summary, digest: str) -> str:
    """Data and base, the training, and what came out. Neither job nor service: they may be others tomorrow."""
    method = next(iter(run.method.model_dump(exclude_none=True)))
    made = LineageNode(id="made", kind=LineageKind.VERSION, name=run.model, digest=digest)
    training = LineageNode(
        id="training", kind=LineageKind.JOB, name=f"{run.objective.value}, {method}"
    )
    data = LineageNode(
        id="data", kind=LineageKind.DATA, name="training data", digest=run.data.digest
    )
    nodes = [made, training, data]
    edges = [
        LineageEdge(source="training", target="made", relation=LineageRelation.MADE),
        LineageEdge(source="data", target="training", relation=LineageRelation.TRAINED),
    ]
    if run.base is not None:
        nodes.append(
            LineageNode(id="base", kind=LineageKind.MODEL, name="base", digest=run.base.digest)
        )
        edges.append(
            LineageEdge(source="base", target="training", relation=LineageRelation.STARTED)
        )
        if summary.kind is ArtifactKind.ADAPTER:
            edges.append(
                LineageEdge(source="base", target="made", relation=LineageRelation.BASE_OF)
            )
    return svg(LineageGraph(nodes=nodes, edges=edges), f"Lineage of {run.model}")


def _made_by(run: TrainingRun, summary: Summary) -> str:
    if run.base is None:
        size = f"{summary.parameters:,} parameters"
        return f"A model trained from scratch ({size}) with its own tokenizer."
    if summary.kind is ArtifactKind.ADAPTER:
        return f"An adapter of rank {summary.rank} for the base `{run.base.digest}`."
    return f"The base `{run.base.digest}` with all weights trained further."


def _facts(run: TrainingRun, summary: Summary) -> list[tuple[str, str]]:
    method = next(iter(run.method.model_dump(exclude_none=True)))
    facts = [
        ("Objective", run.objective.value),
        ("Method", method),
        ("Data", f"`{run.data.digest}`"),
        ("Records", f"{summary.records:,}"),
        ("Tokens seen", f"{summary.tokens:,}"),
        ("Steps", f"{summary.progress.step:,} of {summary.progress.steps:,}"),
        ("Trained parameters", f"{summary.trained_parameters:,} of {summary.parameters:,}"),
        ("Threads", str(summary.threads)),
    ]
    if summary.train_loss is not None:
        facts.append(("Training loss", f"{summary.train_loss:.4f}"))
    if summary.eval_loss is not None:
        facts.append(("Validation loss", f"{summary.eval_loss:.4f}"))
    if summary.cut:
        facts.append(("Records cut to the context", f"{summary.cut:,}"))
    if summary.dropped:
        facts.append(("Records without an answer after the cut", f"{summary.dropped:,}"))
    settings = run.hyperparameters.model_dump(mode="json", by_alias=True, exclude_none=True)
    return facts + [(name, str(value)) for name, value in sorted(settings.items())]

"""The graph around a version: what it was made from, and what it serves in."""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from trimtab_api.model import ApiModel

MAX_NODES: Final = 64
MAX_EDGES: Final = 256


class LineageKind(StrEnum):
    """What a node stands for. Source, Data and Model are no objects of the cluster."""

    SOURCE = "Source"
    DATA = "Data"
    JOB = "FineTuneJob"
    MODEL = "Model"
    VERSION = "ModelVersion"
    SERVICE = "InferenceService"


class LineageRelation(StrEnum):
    """What the source of an edge is to its target."""

    PREPARED_INTO = "PreparedInto"
    TRAINED = "Trained"
    STARTED = "Started"
    MADE = "Made"
    BASE_OF = "BaseOf"
    SERVED_BY = "ServedBy"


NodeId = Annotated[str, Field(min_length=1, max_length=384)]


class LineageNode(ApiModel):
    """One thing in the graph."""

    id: Annotated[NodeId, Field(description="Name of the node in this graph.")]
    kind: Annotated[LineageKind, Field(description="What it stands for.")]
    name: Annotated[
        str,
        Field(max_length=1024, description="Name of the object; of a source, its address."),
    ]
    digest: Annotated[
        str | None, Field(max_length=71, description="Digest of the content, where it has one.")
    ] = None
    note: Annotated[
        str | None,
        Field(max_length=256, description="Its author, or in which role it uses the version."),
    ] = None


class LineageEdge(ApiModel):
    """From where something comes to what became of it."""

    source: Annotated[NodeId, Field(description="Id of the node that was there before.")]
    target: Annotated[NodeId, Field(description="Id of the node that rests on it.")]
    relation: Annotated[LineageRelation, Field(description="What the source is to the target.")]


class LineageGraph(ApiModel):
    """Where a version comes from, by way of its base, and what rests on it. Without circles of Trimtab's making."""

    nodes: Annotated[
        list[LineageNode],
        Field(max_length=MAX_NODES, description="The version first, then what is nearest to it."),
    ] = Field(default_factory=list)
    edges: Annotated[
        list[LineageEdge], Field(max_length=MAX_EDGES, description="How the nodes belong together.")
    ] = Field(default_factory=list)
    omitted: Annotated[
        int, Field(ge=0, description="How many nodes were left out because there is no room.")
    ] = 0

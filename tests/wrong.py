"""Manifests that the API server must refuse, and what its answer must name: the field and the remedy."""

from tests.wrongdata import DATASETS, Wrong
from tests.wrongjobs import JOBS
from tests.wrongservices import DECISIONS, SERVICES
from tests.wrongversions import VERSIONS

REFUSED: Wrong = {**DATASETS, **JOBS, **VERSIONS, **SERVICES, **DECISIONS}

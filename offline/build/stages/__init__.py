"""The stages of a build, a file each."""

from typing import Any, Final

from offline.build.stage import Stage
from offline.build.stages.blend import BLEND
from offline.build.stages.codes import CODES
from offline.build.stages.dataset import DATASET
from offline.build.stages.embeddings import EMBEDDINGS
from offline.build.stages.evaluate import EVALUATE
from offline.build.stages.export import EXPORT
from offline.build.stages.generator import GENERATOR
from offline.build.stages.index import INDEX
from offline.build.stages.query_encoder import QUERY_ENCODER
from offline.build.stages.transitions import TRANSITIONS

STAGES: Final[tuple[Stage[Any], ...]] = (
    DATASET,
    EMBEDDINGS,
    QUERY_ENCODER,
    CODES,
    INDEX,
    TRANSITIONS,
    GENERATOR,
    EXPORT,
    BLEND,
    EVALUATE,
)
"""In their order: each needs only what comes before it."""

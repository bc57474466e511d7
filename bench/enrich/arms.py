"""The two arms: the same data with the items' own texts, and with what was generated below them."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline.build.cache import StageCache
from offline.build.config import BuildConfig
from offline.build.pipeline import Pipeline
from offline.build.source import Filterable, SourceOver
from offline.build.stage import BuildRequest
from offline.dataset import DataError, Dataset, Item
from offline.dataset.generated import GENERATED_TEXT
from services.candidate.retrieval.encoders import OnnxQueryEncoder

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class OwnTexts(SourceOver[Filterable]):
    """Enriched data without what was generated."""

    def facts(self) -> dict[str, Any]:
        """Those of the source, and that it is without."""
        return {**self.source.facts(), "own_texts": True}

    def load(
        self, extra: Mapping[str, Item] | None = None, left_out: Container[str] = ()
    ) -> Dataset:
        """Reads the source, and leaves out what stands below the first lines of texts."""
        data = self.source.load(extra, left_out)
        return replace(data, items=tuple(map(_own, data.items)))


def _own(item: Item) -> Item:
    attributes = {k: v for k, v in item.attributes.items() if k != GENERATED_TEXT}
    return replace(item, text=item.text.partition("\n")[0], attributes=attributes)


@dataclass(frozen=True)
class Arm:
    """What an arm ranks with.

    Attributes:
        data: With the texts of the arm.
        content: float32 [items, content dimension], the vectors of its texts.
        behavior: float32 [items, dimension], the query encoder's item vectors.
        encoder: The query encoder.
    """

    data: Dataset
    content: FloatArray
    behavior: FloatArray
    encoder: OnnxQueryEncoder

    @property
    def marked(self) -> NDArray[np.int32]:
        """The items with generated text."""
        items = [at for at, i in enumerate(self.data.items) if GENERATED_TEXT in i.attributes]
        return np.array(items, np.int32)


def built(source: Filterable, config: BuildConfig, cache: StageCache) -> Arm:
    """Embeds the texts and trains the query encoder, as `tandem build` does, unless it did."""
    pipeline = Pipeline(BuildRequest(source, config, source.name), cache)
    stages = {
        name: pipeline.stage(name).path for name in ("dataset", "embeddings", "query-encoder")
    }
    return Arm(
        Dataset.load(stages["dataset"]),
        _vectors(stages["embeddings"] / "content_vectors.npy"),
        _vectors(stages["query-encoder"] / "behavior_vectors.npy"),
        OnnxQueryEncoder(stages["query-encoder"] / "query_encoder.onnx", threads=1),
    )


def embedded(source: Filterable, own: Arm, config: BuildConfig) -> Arm:
    """The enriched texts in the space of the other arm's query encoder, without a training.

    Raises:
        DataError: no item has generated text.
    """
    from offline.embeddings import EmbedderConfig, embed

    data = source.load()
    arm = replace(own, data=data, content=own.content.copy())
    if not len(arm.marked):
        raise DataError("no item has generated text: name what `tandem enrich` wrote by --items")
    texts = [data.items[at].text for at in arm.marked]
    arm.content[arm.marked] = embed(texts, EmbedderConfig(**config.embedder.model_dump()))
    return arm


def _vectors(path: Path) -> FloatArray:
    return np.asarray(np.load(path, allow_pickle=False), np.float32)

"""The stage `query-encoder`: a transformer that turns a history into a query, and the space of
item vectors that it searches."""

from pathlib import Path
from typing import Final

from offline.build.config import WarmSettings
from offline.build.files import FACTS, write_json
from offline.build.stage import BuildRequest, Earlier, Stage
from offline.query_encoder.config import QueryEncoderConfig


class QueryEncoderSettings(WarmSettings):
    """How it is trained."""

    config: QueryEncoderConfig


def _settings(request: BuildRequest) -> QueryEncoderSettings:
    section = request.config.query_encoder
    train = section.train.model_copy(update={"seed": request.config.seed})
    config = section.model_copy(update={"train": train})
    return QueryEncoderSettings(config=config, warm=request.warm is not None)


def _make(settings: QueryEncoderSettings, earlier: Earlier, out: Path) -> None:
    import numpy as np
    from rich.progress import Progress

    from offline.dataset.schema import Dataset
    from offline.query_encoder.export import export_query_encoder
    from offline.query_encoder.train import train_query_encoder
    from offline.warm.before import Before

    data = Dataset.load(earlier["dataset"])
    content = np.load(earlier["embeddings"] / "content_vectors.npy", allow_pickle=False)
    start = None
    if settings.warm:
        start = Before(earlier["warm"]).query_start(settings.config, data, content)
    with Progress() as progress:
        trained = train_query_encoder(
            data,
            content,
            settings.config,
            start=start,
            checkpoint_path=out / "checkpoint.safetensors",
            progress=progress,
        )
    export = export_query_encoder(trained, out)
    write_json(out / FACTS, {"max_history": export.max_history})
    (out / "checkpoint.safetensors").unlink(missing_ok=True)


QUERY_ENCODER: Final = Stage(
    "query-encoder",
    settings=_settings,
    make=_make,
    needs=lambda settings: ("dataset", "embeddings", *settings.warm_needs),
    together=True,
)

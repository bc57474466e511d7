"""The stage `embeddings`: a vector for each item text, and the embedder as ONNX."""

from pathlib import Path
from typing import Final

from offline.build.config import EmbedderSection
from offline.build.files import FACTS, write_json
from offline.build.stage import Earlier, Stage


def _make(section: EmbedderSection, earlier: Earlier, out: Path) -> None:
    from offline.dataset.schema import Dataset
    from offline.embeddings import (
        MIN_RECALL,
        EmbedderConfig,
        embed_texts,
        export_text_encoder,
        load_embedder,
        quantize_text_encoder,
    )
    from services.candidate.index.space import Space, SpaceName

    embedder = load_embedder(EmbedderConfig(**section.model_dump()))
    texts = [item.text for item in Dataset.load(earlier["dataset"]).items]
    vectors = embed_texts(embedder, texts)
    Space.write(out, SpaceName.CONTENT, vectors)
    encoder = export_text_encoder(embedder, out, texts[:16])
    recall = quantize_text_encoder(embedder, out, texts, vectors)
    facts = {
        "text_prefix": encoder.prompt,
        "query_prefix": encoder.query_prompt,
        "max_text_tokens": encoder.max_length,
        "text_precision": "int8" if (recall or 0.0) >= MIN_RECALL else "fp32",
        "int8_recall_at_10": recall,
    }
    write_json(out / FACTS, facts)


EMBEDDINGS: Final = Stage(
    "embeddings",
    settings=lambda request: request.config.embedder,
    make=_make,
    needs=("dataset",),
)

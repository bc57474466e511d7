"""The made-up shop of the pipeline's tests, as a source, with small models."""

from pathlib import Path

from offline.build.config import BuildConfig, configure
from offline.build.source import LogsSource
from offline.dataset import LogsConfig


def shop_source(root: Path, orders: str = "orders.csv") -> LogsSource:
    """What `tests.pipeline.conftest.write_shop` wrote."""
    return LogsSource(
        LogsConfig(
            root / orders, root / "products.csv", "shop", "customer", "sku", "at",
            item_id_column="sku", text_columns=("title",),
        )
    )  # fmt: skip


def shop_config(root: Path) -> BuildConfig:
    """Two epochs of everything."""
    return configure(
        "demo",
        {
            "embedder": {"model": str(root / "embedder")},
            "query_encoder": {"train": {"epochs": 2}},
            "generator": {"items": {"loop": {"epochs": 2}}},
        },
    )

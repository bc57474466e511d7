"""Stages of `tandem build` that a measurement takes, together with those of other builds."""

from pathlib import Path

from rich.console import Console

from offline.build.cache import StageCache
from offline.build.config import BuildConfig
from offline.build.pipeline import Pipeline
from offline.build.source import Source
from offline.build.stage import BuildRequest


def stages_of(source: Source, config: BuildConfig, work: Path) -> Pipeline:
    """The stages of a build that says nothing, to take some of."""
    cache = StageCache(work, Console(quiet=True))
    return Pipeline(BuildRequest(source, config, source.name), cache)

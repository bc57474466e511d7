"""A build: the stages in order, and the bundle that is published at their end."""

import os
from pathlib import Path
from typing import Any, Final

from offline.build.cache import Built, StageCache
from offline.build.publish import publish
from offline.build.stage import BuildRequest, Stage
from offline.build.stages import STAGES
from offline.build.stages.pretrained import PRETRAINED
from offline.build.stages.warm import WARM

NAMES: Final = (*(stage.name for stage in STAGES), "bundle")
"""What a build can stop after."""
_ALL: Final = (*STAGES, WARM, PRETRAINED)
_BY_NAME: Final[dict[str, Stage[Any]]] = {stage.name: stage for stage in _ALL}


class Pipeline:
    """The stages of one build.

    Args:
        request: what to build.
        cache: where stages are kept.
    """

    def __init__(self, request: BuildRequest, cache: StageCache) -> None:
        self.request = request
        self.cache = cache
        self._built: dict[str, Built] = {}

    def stage(self, name: str) -> Built:
        """A stage, after those that it needs; each is made unless it exists."""
        if name not in self._built:
            stage = _BY_NAME[name]
            settings = stage.settings(self.request)
            earlier = {needed: self.stage(needed) for needed in stage.needed(settings)}
            paths = {needed: built.path for needed, built in earlier.items()}
            self._built[name] = self.cache.stage(
                name,
                lambda out: stage.make(settings, paths, out),
                settings=settings.facts(),
                after=tuple(earlier.values()),
                code=stage.make.__module__,
                together=stage.together,
            )
        return self._built[name]

    def run(self, until: str, bundles: Path) -> Path:
        """Builds all stages up to one, and returns the directory of that one.

        Args:
            until: one of `NAMES`.
            bundles: where the bundle goes, after the last stage.
        """
        if self.request.gguf is not None:
            self.stage(PRETRAINED.name)  # before what takes long: it may be refused
        for stage in STAGES:
            built = self.stage(stage.name)
            if stage.name == until:
                return built.path
        return publish(self.stage("evaluate").path, self.request, bundles)


def check_torchrun(until: str) -> None:
    """Under torchrun only the generator is trained together.

    Raises:
        ValueError: another stage is asked for.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and until != "generator":
        raise ValueError(
            "under torchrun, build with --until generator; "
            "before and after it, run `tandem build` by itself"
        )

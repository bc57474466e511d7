"""The stage `warm`: the parameters of a bundle that training starts from. It is made only where a
build starts from one, and apart from those that train, which so depend on none of its code."""

from pathlib import Path
from typing import Final

from offline.build.config import WarmStart
from offline.build.stage import BuildRequest, Earlier, Stage


def _settings(request: BuildRequest) -> WarmStart:
    if request.warm is None:
        raise ValueError("a build that starts from nothing has no such stage")
    return request.warm.model_copy(update={"gguf": request.gguf is not None})


def _make(settings: WarmStart, earlier: Earlier, out: Path) -> None:
    from core.bundle import Bundle
    from offline.dataset.schema import Dataset
    from offline.warm.leaks import check_leaks
    from offline.warm.stored import write_models

    bundle = Bundle.open(settings.bundle)
    check_leaks(bundle, Dataset.load(earlier["dataset"]))
    write_models(bundle, out, earlier.get("pretrained"))


WARM: Final = Stage(
    "warm",
    settings=_settings,
    make=_make,
    needs=lambda settings: ("dataset", *(("pretrained",) if settings.gguf else ())),
)

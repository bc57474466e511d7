"""The stage `pretrained`: a GGUF file as a checkpoint that transformers loads. It is made only
where a build starts from such a file, and is kept by what that holds."""

from pathlib import Path
from typing import Final

from offline.build.generator.pretrained import GgufFile
from offline.build.stage import BuildRequest, Earlier, Stage


def _settings(request: BuildRequest) -> GgufFile:
    if request.gguf is None:
        raise ValueError("a build that starts from no GGUF file has no such stage")
    return request.gguf


def _make(settings: GgufFile, _: Earlier, out: Path) -> None:
    from offline.generator.tokens.gguf_file import convert

    convert(settings.path(), out)


PRETRAINED: Final = Stage("pretrained", settings=_settings, make=_make)

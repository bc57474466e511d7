"""What a stage of the build is: its inputs, said once, and what it makes of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from offline.build.config import BuildConfig, WarmStart
from offline.build.generator.pretrained import GgufFile, gguf_file
from offline.build.source import Source

Earlier = Mapping[str, Path]
"""The directories of the stages that a stage reads, by name."""


class HasFacts(Protocol):
    """What a stage is told: some `Settings`, or a source of data."""

    def facts(self) -> dict[str, Any]:
        """What decides the content, as JSON."""


Told = TypeVar("Told", bound=HasFacts)


@dataclass(frozen=True)
class BuildRequest:
    """What is to be built.

    Attributes:
        source: The data.
        config: Everything else.
        name: Of the bundle.
        warm: The bundle that training starts from, if any.
    """

    source: Source
    config: BuildConfig
    name: str
    warm: WarmStart | None = None

    @cached_property
    def gguf(self) -> GgufFile | None:
        """The GGUF file that the generator starts from, if any.

        Raises:
            FileNotFoundError: there is no such file.
        """
        return gguf_file(self.config.generator.checkpoint)


@dataclass(frozen=True)
class Stage(Generic[Told]):
    """A stage.

    Attributes:
        name: Its directories start with it.
        settings: The part of a request that it depends on.
        make: Writes its files, told no more than its settings and the stages that it needs. What
            takes long to import, such as torch, is imported within it: most stages of most builds
            exist.
        needs: Names of the earlier stages that it reads; a function where they depend on settings.
        together: Whether the processes that torchrun starts make it together.
    """

    name: str
    settings: Callable[[BuildRequest], Told]
    make: Callable[[Told, Earlier, Path], None]
    needs: tuple[str, ...] | Callable[[Told], tuple[str, ...]] = ()
    together: bool = False

    def needed(self, settings: Told) -> tuple[str, ...]:
        """The names of the earlier stages that it reads."""
        return self.needs(settings) if callable(self.needs) else self.needs

"""Several bundles in one process, such as those of several shops, told apart by a field of a call.

Each has versions of its own, of which one serves; a version of one never answers for another. The
one with an empty name answers the calls that name none. Most processes have that one alone.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from core.bundle import Bundle
from core.errors import InvalidArgument, TandemError
from serving.bundles.held import HeldBundles, Servicer
from serving.bundles.swapper import BundleSwapper

FIELD: Final = "bundle"
"""The field by which a request names a bundle."""
MAX_SHOWN: Final = 64
"""Characters of an unknown name that an error repeats."""

T = TypeVar("T")


@dataclass(frozen=True)
class NamedBundle:
    """What a process is told of one of its bundles."""

    path: Path
    """Of the version to begin with."""
    load: Callable[[Bundle], Servicer]
    """Makes the servicer of a version, ready to answer; called on a thread, for one version after
    another, and may take long."""
    held: HeldBundles = field(default_factory=HeldBundles)
    """Where its versions are held, for a servicer that must know of the others."""


class NamedBundles:
    """The bundles of a process, and what changes their versions.

    Args:
        bundles: by name; one has the empty name.
        activated: told of the servicer that serves the calls that name no bundle, from now on.
        key: that bundles must be signed with; None takes any.
    """

    def __init__(
        self,
        bundles: Mapping[str, NamedBundle],
        activated: Callable[[Servicer], None],
        key: Ed25519PublicKey | None = None,
    ) -> None:
        self._bundles = bundles
        self.held = {name: bundle.held for name, bundle in bundles.items()}
        """The versions of each, by name."""
        self.swappers = {
            name: BundleSwapper(
                bundle.held, bundle.load, bundle.path, _nobody if name else activated, key
            )
            for name, bundle in bundles.items()
        }
        """What changes them, by name."""

    async def start(self) -> None:
        """Loads the first version of each, one after another, and lets it serve.

        Raises:
            TandemError: one must not be served; the message names it.
        """
        for name, bundle in self._bundles.items():
            try:
                await self.swappers[name].start(bundle.path)
            except TandemError as error:
                if name:
                    error.message = f"bundle {name!r}: {error.message}"
                raise

    def states(self) -> Iterator[tuple[str, str, str]]:
        """The versions that are held: the name of the bundle, the version, and what it is."""
        for name, held in self.held.items():
            for version, state in held.states():
                yield name, version, state

    async def close(self) -> None:
        """Waits for changes that are under way, and closes all that is held."""
        for swapper in self.swappers.values():
            await swapper.close()


def named_in(request: Any) -> str:
    """The name that a request gives; empty where it gives none, and for a stream of requests, each
    of which gives its own."""
    kind: Any = type(request)  # of which mypy would not believe that it can be hashed
    return str(request.bundle) if _has_field(kind) else ""


def chosen(bundles: Mapping[str, T], name: str) -> T:
    """What there is of the bundle of a name.

    Raises:
        InvalidArgument: reason UNKNOWN_BUNDLE_NAME.
    """
    try:
        return bundles[name]
    except KeyError:
        raise InvalidArgument(
            f"this server has no bundle of the name {name[:MAX_SHOWN]!r}",
            reason="UNKNOWN_BUNDLE_NAME",
        ) from None


@cache
def _has_field(kind: Hashable) -> bool:
    """Whether a message has the field; asking each message for one that it has not takes 5 µs."""
    descriptor = getattr(kind, "DESCRIPTOR", None)
    return descriptor is not None and FIELD in descriptor.fields_by_name


def _nobody(_: Servicer) -> None:
    """Is told of what serves, and does nothing."""

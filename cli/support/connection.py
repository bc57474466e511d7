"""Servers that do not answer."""

from collections.abc import Iterator
from contextlib import contextmanager

from tandem import Unavailable


@contextmanager
def reaching(server: str, address: str) -> Iterator[None]:
    """Says what to do where nothing answers.

    Args:
        server: what should answer: "gateway", for example.
        address: where.

    Raises:
        Unavailable: as the block raised it, but for what it says.
    """
    try:
        yield
    except Unavailable as error:
        if error.reason:  # a server gave it
            raise
        raise Unavailable(
            error.code,
            f"no {server} answers at {address}; start one with `tandem serve all`, "
            "or name another with --address",
        ) from error

"""A catalog's vectors in Milvus: the index beyond one machine (https://milvus.io).

Milvus proposes, and the vectors of the bundle, mapped from their file, decide: scores are exact as
with every other kind. What a filter leaves is found in one of three ways. Few items are compared
here, without a call. If few are left out, the call names those. Else more are asked for than are
wanted, more and more until enough of them are allowed, and beyond what Milvus gives at once those
that are allowed are compared here.

A collection holds one space of one bundle and is never written to once it is whole; items that are
added later stay in the process, whose store has them (`LiveIndex`).
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import grpc
import numpy as np
from numpy.typing import NDArray
from pymilvus import DataType, MilvusClient, MilvusException

from core.catalog import Mask
from core.errors import Unavailable
from services.candidate.index.flat import BaseIndex, Neighbors, exact, rescored
from services.candidate.index.vectors import Vector

COMPARED: Final = 20_000
"""Items up to which it is faster to compare them here than to ask."""
NAMED: Final = 2_000
"""Items up to which a call names what is left out."""
MOST: Final = 16_384
"""Items that Milvus gives at once, at most."""
MARGIN: Final = 2.0
"""Items that are asked for, as a multiple of those that should do."""
WRITTEN: Final = 1_000
"""Vectors in one call that writes: half a megabyte at 128 numbers."""

TIMEOUT: Final = 2.0
"""Seconds for a search."""
LOAD_TIMEOUT: Final = 60.0
"""Seconds for a call that writes or prepares."""

_POSITION, _VECTOR = "position", "vector"


class MilvusIndex(BaseIndex):
    """A collection of a Milvus server, and the vectors that it was made of.

    Args:
        client: of the server.
        collection: its name; it holds exactly these vectors, by position.
        vectors: float32 [items, dimension], mapped from their file as a rule.
        timeout: seconds for a search.
    """

    def __init__(
        self, client: MilvusClient, collection: str, vectors: Vector, *, timeout: float = TIMEOUT
    ) -> None:
        super().__init__(vectors)
        self._client = client
        self._collection = collection
        self._timeout = timeout

    @classmethod
    def open(
        cls, uri: str, version: str, space: str, vectors: Vector, *, timeout: float = TIMEOUT
    ) -> "MilvusIndex":
        """Connects, and writes the vectors unless the collection has them all.

        Any number of processes may open the same collection at once, and one that was killed while
        it wrote is continued: a vector is written under its position.

        Args:
            uri: `milvus://host:port`, `http(s)://…`, or a path for Milvus Lite in this process.
            version: of the bundle; a collection belongs to one.
            space: the name of the space.
            vectors: float32 [items, dimension].
            timeout: seconds for a search.

        Raises:
            Unavailable: the server cannot be reached, or does not do what it is asked.
        """
        with _answered(uri):
            client = MilvusClient(re.sub("^milvus://", "http://", uri), timeout=LOAD_TIMEOUT)
            collection = collection_name(version, space, vectors)
            if not client.has_collection(collection, timeout=LOAD_TIMEOUT):
                _create(client, collection, vectors.shape[1])
            client.load_collection(collection, timeout=LOAD_TIMEOUT)
            _fill(client, collection, vectors)
        return cls(client, collection, vectors, timeout=timeout)

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()

    def _search(self, query: Vector, count: int, allowed: Mask | None, available: int) -> Neighbors:
        vectors, left_out = self._all.base, len(self) - available
        if available <= COMPARED or count > MOST:
            return exact(vectors, query, count, allowed, available)
        if allowed is None or left_out <= NAMED:
            denied = [] if allowed is None else np.flatnonzero(~allowed).tolist()
            found = self._propose(query, count, f"{_POSITION} not in {denied}" if denied else "")
            if len(found) >= count:
                return rescored(vectors, query, count, found)
            return exact(vectors, query, count, allowed, available)
        asked = count * len(self) / available
        while asked < MOST:
            asked = min(MOST, MARGIN * asked)
            found = self._propose(query, int(asked), "")
            found = found[allowed[found]]
            if len(found) >= count:
                return rescored(vectors, query, count, found)
        return exact(vectors, query, count, allowed, available)

    def _propose(self, query: Vector, count: int, condition: str) -> NDArray[np.int64]:
        """The positions that Milvus finds, int64 [at most count]."""
        with _answered(self._collection):
            (hits,) = self._client.search(
                self._collection,
                [query],
                filter=condition,
                limit=count,
                search_params={"metric_type": "IP"},
                timeout=self._timeout,
            )
        return np.array([hit[_POSITION] for hit in hits], np.int64)


def collection_name(version: str, space: str, vectors: Vector) -> str:
    """The collection of a space: it says whose it is, and differs wherever the vectors do.

    Args:
        version: of the bundle.
        space: the name of the space.
        vectors: float32 [items, dimension]; their shape and a sample of them count.
    """
    digest = hashlib.sha256(f"{version} {space} {vectors.shape}".encode())
    digest.update(np.ascontiguousarray(vectors[:: max(1, len(vectors) // 1000)]).tobytes())
    readable = re.sub(r"\W", "_", f"tandem_{version}_{space}")
    return f"{readable[:200]}_{digest.hexdigest()[:16]}"


def _create(client: MilvusClient, collection: str, dimension: int) -> None:
    schema = client.create_schema(auto_id=False)
    schema.add_field(_POSITION, DataType.INT64, is_primary=True)
    schema.add_field(_VECTOR, DataType.FLOAT_VECTOR, dim=dimension)
    index = client.prepare_index_params()
    index.add_index(_VECTOR, index_type="AUTOINDEX", metric_type="IP")
    client.create_collection(
        collection,
        schema=schema,
        index_params=index,
        consistency_level="Strong",  # or what was just written could be missing
        timeout=LOAD_TIMEOUT,
    )


def _fill(client: MilvusClient, collection: str, vectors: Vector) -> None:
    """Writes what is missing: from where an earlier process left off, unless all is there."""
    counted = client.query(collection, output_fields=["count(*)"], timeout=LOAD_TIMEOUT)[0][
        "count(*)"
    ]
    if counted == len(vectors):
        return
    for start in range(counted - counted % WRITTEN, len(vectors), WRITTEN):
        rows = [
            {_POSITION: position, _VECTOR: vector}
            for position, vector in enumerate(vectors[start : start + WRITTEN], start)
        ]
        client.upsert(collection, rows, timeout=LOAD_TIMEOUT)
    client.flush(collection, timeout=LOAD_TIMEOUT)


@contextmanager
def _answered(what: str) -> Iterator[None]:
    """Makes one error of all that a server or the way to it can do."""
    try:
        yield
    except (MilvusException, grpc.RpcError, OSError) as error:
        raise Unavailable(
            f"Milvus does not answer for {what}: {error}", reason="INDEX_UNAVAILABLE"
        ) from error

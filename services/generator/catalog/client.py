"""CatalogService as the generator sees it: the feed of changes of the catalog."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Final

import grpc
import numpy as np
import structlog

from core.catalog import CatalogItem, Delete
from services.generator.catalog.coded import CodedChange, CodedUpsert
from serving.bundles.held import VERSION_KEY
from serving.security.links import Link
from serving.validation import attributes_of
from tandem.channel import channel_options
from tandem.errors import from_rpc
from tandem.v1 import catalog_service_pb2 as pb
from tandem.v1 import catalog_service_pb2_grpc as pb_grpc
from tandem.v1 import common_pb2

log = structlog.get_logger()

SILENCE_SECONDS: Final = 12.0
"""Without a heartbeat, which is due every 5 seconds, for so long a peer is taken to be gone."""

_OTHER_CATALOG: Final = frozenset({"UNKNOWN_SEQUENCE", "OTHER_BUNDLE"})


class Disconnected(Exception):
    """The feed ended, and may be taken up again where it was."""


class OtherCatalog(Disconnected):
    """The peer's catalog is not the one that was followed: begin anew."""


@dataclass(frozen=True)
class Step:
    """Some changes of the catalog, in order."""

    changes: Sequence[CodedChange]
    """None in a heartbeat."""
    sequence: int
    """Whoever made these changes has all up to here."""
    last: int = 0
    """Of the last change that there was when this was sent; 0 where the peer does not say."""


class CatalogFeed:
    """Follows the catalog of a candidate service.

    Args:
        target: its address.
        bundle_version: of the bundle that the follower starts from, which must be the peer's too.
        silence: seconds without any message after which the peer is taken to be gone.
        link: opens the channel; for newer files of TLS there is a new one.
    """

    def __init__(
        self,
        target: str,
        bundle_version: str,
        silence: float = SILENCE_SECONDS,
        link: Link | None = None,
    ) -> None:
        self.target = target
        self._bundle_version = bundle_version
        self._silence = silence
        self._link = link or Link()
        self._generation = self._link.generation
        self._channel: grpc.aio.Channel | None = None
        self._stub: pb_grpc.CatalogServiceAsyncStub

    async def steps(self, after: int) -> AsyncGenerator[Step, None]:
        """Yields what happened after a sequence, and then what happens; never ends by itself.

        Raises:
            OtherCatalog: the peer has another bundle, or has not reached that sequence.
            Disconnected: it cannot be reached, ended the stream, or is silent.
        """
        request = pb.WatchItemsRequest(after_sequence=after, bundle_version=self._bundle_version)
        await self._connect()
        call = self._stub.WatchItems(request, metadata=((VERSION_KEY, self._bundle_version),))
        try:
            while True:
                async with asyncio.timeout(self._silence):
                    message = await call.read()
                if not isinstance(message, pb.WatchItemsResponse):
                    raise Disconnected("the stream ended")
                yield Step(
                    _read_changes(message.changes), message.sequence, message.catalog_sequence
                )
        except grpc.aio.AioRpcError as error:
            failure = from_rpc(error)
            kind = OtherCatalog if failure.reason in _OTHER_CATALOG else Disconnected
            raise kind(str(failure)) from error
        except TimeoutError as error:
            raise Disconnected(f"no heartbeat for {self._silence:g} s") from error
        finally:
            call.cancel()

    async def close(self) -> None:
        """Closes the connection."""
        if self._channel is not None:
            await self._channel.close()

    async def _connect(self) -> None:
        """Opens a channel, which belongs to the event loop; feeds are made on a thread."""
        generation = self._link.generation
        if self._channel is not None and self._generation == generation:
            return
        await self.close()
        self._generation = generation
        # How much a message holds is the candidate's choice, which is one of our own processes.
        options = channel_options(["tandem.v1.CatalogService"], max_answer_bytes=-1)
        self._channel = self._link.open(self.target, options)
        self._stub = pb_grpc.CatalogServiceStub(self._link.keyed(self._channel))


def _read_changes(messages: Sequence[pb.ItemChange]) -> list[CodedChange]:
    changes: list[CodedChange] = []
    for message in messages:
        match message.WhichOneof("change"):
            case "upsert":
                coded = message.upsert
                content = np.array(coded.content_vector, np.float32)
                tokens = tuple(coded.code_tokens)
                item = _read_item(coded.item)
                changes.append(CodedUpsert(item, coded.code_text, tokens, content))
            case "delete_item_id":
                changes.append(Delete(message.delete_item_id))
            case _:
                log.error("catalog change of an unknown kind", sequence=message.sequence)
    return changes


def _read_item(item: common_pb2.Item) -> CatalogItem:
    return CatalogItem(
        item_id=item.item_id,
        title=item.title,
        text=item.text,
        attributes=attributes_of(item.attributes),
        popularity=item.popularity,
    )

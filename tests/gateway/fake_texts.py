"""A writer without a model: its words are foretold."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from core.errors import TandemError
from serving.timings import stage_timing
from tandem.v1 import generator_service_pb2 as pb
from tandem.v1 import generator_service_pb2_grpc as pb_grpc

STALLS = "stalls"
"""A text about this feature never goes on after its first words."""


class FakeWriter(pb_grpc.GeneratorServiceServicer):
    """The methods of a generator that write.

    Attributes:
        failures: raised by the next calls, each once, before the first words.
        breaks: raised after the first words, while it is set.
        left: set once a caller has left a text that never goes on.
    """

    version: str
    sequence: int

    def __init__(self) -> None:
        self.failures: list[TandemError] = []
        self.breaks: TandemError | None = None
        self.left = asyncio.Event()

    async def enter(self, request: Any, history: Any, context: Any) -> None:
        """What happens at the start of every call."""
        raise NotImplementedError

    async def Explain(  # noqa: N802
        self, request: pb.ExplainRequest, context: Any
    ) -> AsyncIterator[pb.ExplainResponse]:
        history = request.context.history_item_ids
        await self.enter(request, history, context)
        if self.failures:
            raise self.failures.pop(0)
        named: dict[str, Any] = {"bundle_version": self.version, "catalog_sequence": self.sequence}
        words = f"like {request.item_id} after {' '.join(history)}".split()
        yield pb.ExplainResponse(delta="You would", **named)
        await self._go_on(request.feature)
        for word in words:
            yield pb.ExplainResponse(delta=f" {word}", **named)
        yield pb.ExplainResponse(end=_end(2 + len(words)), **named)

    async def Summarize(  # noqa: N802
        self, request: pb.SummarizeRequest, context: Any
    ) -> AsyncIterator[pb.SummarizeResponse]:
        await self.enter(request, (), context)
        named: dict[str, Any] = {"bundle_version": self.version, "catalog_sequence": self.sequence}
        yield pb.SummarizeResponse(delta=request.text.split()[0], **named)
        yield pb.SummarizeResponse(end=_end(1), **named)

    async def _go_on(self, feature: str) -> None:
        if self.breaks is not None:
            raise self.breaks
        if feature == STALLS:
            try:
                await asyncio.Event().wait()
            finally:
                self.left.set()


def _end(tokens: int) -> pb.TextEnd:
    return pb.TextEnd(
        reason=pb.STOP_REASON_END, tokens=tokens, timings=[stage_timing("first", 0.001)]
    )

"""The methods of GeneratorService that write text."""

import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

import grpc
import numpy as np

from core.errors import FailedPrecondition, NotFound
from services.generator.catalog.follower import Follower
from services.generator.decoding.engine import GeneratorEngine, UserContext
from services.generator.text.deltas import Deltas
from services.generator.text.engine import TextEngine, TextJob, text_section
from services.generator.text.metrics import TextMetrics
from services.generator.text.places import Finished, Stop
from services.generator.text.prompts import TextPrompts
from services.generator.text.queue import TextLimits, TextQueue
from services.generator.text.requests import Options, read_explain, read_summarize
from services.generator.turns import ModelTurns
from serving.deadline import deadline
from serving.timings import stage_timing
from serving.workers import Workers
from tandem.v1 import generator_service_pb2 as pb
from tandem.v1 import generator_service_pb2_grpc as pb_grpc

NOTHING: Final = np.empty(0, np.int32)

RpcContext = grpc.aio.ServicerContext[Any, Any]

_REASONS: Final = {
    Stop.END: pb.STOP_REASON_END,
    Stop.MAX_TOKENS: pb.STOP_REASON_MAX_TOKENS,
    Stop.DEADLINE: pb.STOP_REASON_DEADLINE,
}


class TextMethods(pb_grpc.GeneratorServiceServicer):
    """Answers `Explain` and `Summarize`.

    Args:
        follower: has the engine.
        users: the position of each user in the bundle.
        version: of the bundle, named in every message.
        preparers: threads on which prompts are made.
        turns: at the model.
        limits: how many texts there may be.
        metrics: what is counted.
    """

    def __init__(
        self,
        follower: Follower,
        users: Mapping[str, int],
        version: str,
        preparers: Workers,
        turns: ModelTurns,
        limits: TextLimits,
        metrics: TextMetrics,
    ) -> None:
        self.follower = follower
        self._users = users
        self.version = version
        self._preparers = preparers
        self._text_metrics = metrics
        parts = follower.engine.parts
        self.texts = TextQueue(TextEngine(parts), turns, limits) if parts.section.text else None
        """Texts that wait and that are written; None where the model writes none."""

    async def Explain(
        self, request: pb.ExplainRequest, _context: RpcContext
    ) -> AsyncIterator[pb.ExplainResponse]:
        """Writes why a user would like an item."""
        engine = self.follower.engine  # one version of the catalog from here to the end
        asked = read_explain(request, text_section(engine.parts).max_tokens)
        catalog = engine.snapshot.catalog
        items, _ = catalog.lookup([asked.item_id])
        if not len(items):
            raise NotFound(
                f"the catalog has no item {asked.item_id!r}",
                reason="UNKNOWN_ITEMS",
                item_id=asked.item_id,
            )
        history, missing = catalog.lookup(asked.history)
        context = UserContext(self._users.get(asked.user_id), history)

        def prompt() -> list[int]:
            return TextPrompts(engine).explain(context, int(items[0]), asked.feature)

        named = self._named(engine)
        async with aclosing(self._written(engine, prompt, asked.options)) as parts:
            async for part in parts:
                if isinstance(part, str):
                    yield pb.ExplainResponse(delta=part, **named)
                else:
                    yield pb.ExplainResponse(end=_end(part, missing), **named)

    async def Summarize(
        self, request: pb.SummarizeRequest, _context: RpcContext
    ) -> AsyncIterator[pb.SummarizeResponse]:
        """Writes a short summary of a text."""
        engine = self.follower.engine
        asked = read_summarize(request, text_section(engine.parts).max_tokens)

        def prompt() -> list[int]:
            return TextPrompts(engine).summarize(asked.text)

        named = self._named(engine)
        async with aclosing(self._written(engine, prompt, asked.options)) as parts:
            async for part in parts:
                if isinstance(part, str):
                    yield pb.SummarizeResponse(delta=part, **named)
                else:
                    yield pb.SummarizeResponse(end=_end(part), **named)

    async def _written(
        self, engine: GeneratorEngine, prompt: Callable[[], list[int]], options: Options
    ) -> AsyncGenerator[str | Finished, None]:
        """The words of a text as they come, and its end."""
        if self.texts is None:
            raise FailedPrecondition("the model writes no text", reason="NO_TEXT")

        async def prepare() -> TextJob:
            ids = await self._preparers.run(prompt)
            return TextJob(engine.snapshot, ids, options.max_tokens, options.sampling)

        deltas = Deltas(engine.parts.tokenizer.decode)
        async with aclosing(self.texts.write(prepare, deadline())) as events:
            async for event in events:
                delta = deltas.finish() if isinstance(event, Finished) else deltas.add(event)
                if delta:
                    yield delta
                if isinstance(event, Finished):
                    self._text_metrics.finished(event)
                    yield event

    def _named(self, engine: GeneratorEngine) -> dict[str, Any]:
        """What every message of a text says."""
        sequence = engine.snapshot.sequence
        return {"bundle_version": self.version, "catalog_sequence": sequence}

    async def _warm_up_texts(self) -> None:
        """Writes two tokens, so that the first caller does not pay for it."""
        if self.texts is None:
            return
        engine = self.follower.engine

        async def prepare() -> TextJob:
            return TextJob(engine.snapshot, engine.render(UserContext(None, NOTHING)), 2)

        async with aclosing(self.texts.write(prepare, math.inf)) as events:
            async for _ in events:
                pass

    def _follow_texts(self) -> None:
        texts = self.texts
        if texts is None:  # those of the version before are let go of
            self._text_metrics.follow(lambda: 0, lambda: 0)
        else:
            self._text_metrics.follow(lambda: texts.waiting, lambda: texts.running)

    async def _close_texts(self) -> None:
        if self.texts is not None:
            await self.texts.close()


def _end(text: Finished, missing: list[str] | None = None) -> pb.TextEnd:
    stages = ("prepare", "queue", "first", "rest")
    seconds = (text.prepared, text.queued, text.first, text.rest)
    return pb.TextEnd(
        reason=_REASONS[text.stop],
        tokens=text.tokens,
        timings=map(stage_timing, stages, seconds),
        missing_item_ids=missing,
    )

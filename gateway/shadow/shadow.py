"""Which calls a variant answers once more, and how it is asked."""

import random
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway.deadline import Deadline
from gateway.domain import Answer
from gateway.shadow.replay import Replays, Served
from gateway.variants.choice import Choice
from gateway.variants.plan import ShadowPlan
from gateway.variants.variants import Variants
from tandem.v1 import recommendation_service_pb2 as pb

if TYPE_CHECKING:
    from gateway.servicer import RecommendationServicer


class Shadow:
    """Has the variant that the serving file names answer a share of the calls once more.

    Args:
        variants: by the file.
        replays: what is in flight.
    """

    def __init__(self, variants: Variants, replays: Replays) -> None:
        self._variants = variants
        self._replays = replays

    def followed(
        self,
        choice: Choice,
        request: pb.RecommendRequest,
        servicer: "RecommendationServicer",
        context: Any,
    ) -> Choice:
        """How a call is answered, and compared afterwards where it is among those that are.

        A list is compared once, with its first page; one that the variant itself made is not, and
        neither is one with diagnostics, because they would take most of the time.

        Args:
            choice: how the call is answered.
            request: as it came.
            servicer: answers where a variant has no version of its own.
            context: of the call.
        """
        plan = self._variants.experiment.plan.shadow
        if (
            plan is None
            or random.random() >= plan.share  # noqa: S311 - no secret depends on it
            or choice.variant == plan.variant
            or choice.request.diagnostics
            or request.page_token
        ):
            return choice

        def follow(answer: Answer, seconds: float, allowed: float) -> None:
            if answer.degradations:
                return  # it would be compared with what the failure left of it
            ask = partial(self._ask, plan, request, servicer, answer.history)
            items = tuple(item.item_id for item in answer.items)
            self._replays.follow(plan, Served(items, seconds, allowed, ask), context)

        return replace(choice, follow=follow)

    async def close(self) -> None:
        """Ends the replays that are in flight."""
        await self._replays.close()

    async def _ask(
        self,
        plan: ShadowPlan,
        request: pb.RecommendRequest,
        servicer: "RecommendationServicer",
        history: tuple[str, ...],
        deadline: Deadline,
    ) -> Answer:
        """The variant's answer, from the history that the caller's was made from.

        Raises:
            FailedPrecondition: reason VARIANT_NOT_READY.
            TandemError: a stage failed; an answer that does without one is not compared.
        """
        named = pb.RecommendRequest()
        named.CopyFrom(request)
        named.variant = plan.variant
        with self._variants.chosen(named, servicer) as choice:
            return await choice.servicer.answer_again(choice.request, history, deadline)

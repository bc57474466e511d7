"""How requests are answered by the serving file as it is now."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import InvalidArgument
from gateway.variants.choice import Choice, Record
from gateway.variants.experiment import Experiment
from gateway.variants.file import watch_plan
from gateway.variants.metrics import VariantMetrics
from gateway.variants.plan import Plan, Variant
from gateway.variants.requests import completed
from serving.bundles.held import VERSION_KEY
from tandem.v1 import recommendation_service_pb2 as pb

if TYPE_CHECKING:
    from gateway.servicer import RecommendationServicer


class Variants:
    """Chooses what answers each request.

    Args:
        path: of the file; without one every request is answered as it came.
        metrics: what is counted.
        serving: what answers the calls that name no version; None before anything does.
        clock: in seconds.

    Raises:
        SettingsError: the file cannot be read, or says something impossible.
    """

    def __init__(
        self,
        path: Path | None,
        metrics: VariantMetrics,
        serving: Callable[[], "RecommendationServicer | None"],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watched = watch_plan(path) if path else None
        self._metrics = metrics
        self._serving = serving
        self._clock = clock
        self._take_over(self._watched.current() if self._watched else Plan())

    @property
    def experiment(self) -> Experiment:
        """By the file as it is now. What became of canaries by the one before is forgotten."""
        if self._watched is not None:
            plan = self._watched.current()
            if plan is not self._experiment.plan:
                self._take_over(plan)
        return self._experiment

    @contextmanager
    def chosen(
        self, request: pb.RecommendRequest, servicer: "RecommendationServicer", context: Any = None
    ) -> Iterator[Choice]:
        """How a request is answered. Within, the version that answers is not released.

        Args:
            request: as it came.
            servicer: answers where the variant has no version of its own.
            context: of the call; None for a replay.

        Raises:
            InvalidArgument: reason UNKNOWN_VARIANT or UNKNOWN_SERVING_CONFIG.
            FailedPrecondition: reason VARIANT_NOT_READY: the request names a variant that cannot
                answer now.
        """
        experiment = self.experiment
        bound = bool(experiment.plan.variants) and _names_version(context)
        variant = experiment.variant_of(request, servicer, bound=bound)
        record = None if variant is None else partial(self._record, experiment, variant, request)
        choice = self._choice(request, variant, servicer, record)
        held = choice.servicer.held.find(choice.servicer.version)
        with held.calls.during() if held else nullcontext():
            yield choice

    def _choice(
        self,
        request: pb.RecommendRequest,
        variant: Variant | None,
        servicer: "RecommendationServicer",
        record: Record | None,
    ) -> Choice:
        config = self._config(request.serving_config)
        if variant is None:
            return Choice(completed(request, config), servicer)
        # Only one that has something to answer for it is chosen.
        answering = self._experiment.servicer(variant, servicer) or servicer
        whole = completed(request, variant.defaults, config)
        return Choice(whole, answering, variant.name, record)

    def _config(self, name: str) -> pb.RecommendRequest | None:
        if not name:
            return None
        if (config := self._experiment.plan.configs.get(name)) is None:
            raise InvalidArgument(
                f"there is no serving configuration {name!r}", reason="UNKNOWN_SERVING_CONFIG"
            )
        return config

    def _record(
        self,
        experiment: Experiment,
        variant: Variant,
        request: pb.RecommendRequest,
        outcome: str,
        seconds: float,
    ) -> None:
        if experiment is not self._experiment:
            return  # the file has changed since
        self._metrics.ended(variant.name, outcome, seconds)
        if not request.variant:  # those who name one are not like the others
            experiment.record(variant, self._clock(), seconds, bad=outcome != "whole")

    def _states(self) -> list[tuple[str, str]]:
        """Of the variants, as calls that name no version meet them."""
        serving, experiment = self._serving(), self._experiment
        return [
            (name, experiment.state(variant, serving))
            for name, variant in experiment.plan.variants.items()
            if serving is not None
        ]

    def _take_over(self, plan: Plan) -> None:
        self._experiment = Experiment(plan)
        self._metrics.follow(plan.variants, self._states)


def _names_version(context: Any) -> bool:
    return context is not None and any(
        key == VERSION_KEY for key, _ in context.invocation_metadata() or ()
    )

"""The variants of one serving file while it holds: who has whom, and which are withdrawn."""

from enum import StrEnum
from typing import TYPE_CHECKING, Final, cast

import structlog

from core.errors import FailedPrecondition, InvalidArgument
from gateway.variants.assignment import assigned, subject
from gateway.variants.canary import Canary
from gateway.variants.plan import Plan, Variant
from tandem.v1 import recommendation_service_pb2 as pb

if TYPE_CHECKING:
    from gateway.servicer import RecommendationServicer

log = structlog.get_logger()


class State(StrEnum):
    """Whether a variant has its users."""

    ON = "on"
    WITHDRAWN = "withdrawn"
    NOT_HELD = "not_held"
    """Its version is not held, or the gateway does not have its bundle."""
    UNFIT = "unfit"
    """Its bundle lacks an attribute that it needs."""
    OTHER_HISTORIES = "other_histories"
    """Its bundle keeps histories elsewhere, so that it would not know the user, and what is clicked
    of its answers would be nobody's."""


_READY: Final = (State.ON, State.WITHDRAWN)


class Experiment:
    """Divides requests among variants, and withdraws canaries.

    Args:
        plan: the file.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._canaries = {
            name: Canary(variant.limits)
            for name, variant in plan.variants.items()
            if variant.limits
        }
        self._missing: set[tuple[str, str]] = set()
        """Variants that the log has been told cannot answer, beside the version that serves."""

    def servicer(
        self, variant: Variant, servicer: "RecommendationServicer", *, bound: bool = False
    ) -> "RecommendationServicer | None":
        """What answers for a variant; None where its version is not held.

        Args:
            variant: of the plan.
            servicer: answers for one without a version of its own.
            bound: whether nothing else may answer, because the call names the version.
        """
        version = variant.bundle_version
        if not variant.bundle and version in ("", servicer.version):
            return servicer
        versions = None if bound else servicer.held_of(variant.bundle)
        if versions is None:
            return None
        held = versions.find(version) if version else versions.serving
        return cast("RecommendationServicer", held.servicer) if held else None

    def state(
        self, variant: Variant, servicer: "RecommendationServicer", *, bound: bool = False
    ) -> State:
        """Whether a variant has its users; the arguments are those of `servicer`."""
        answering = self.servicer(variant, servicer, bound=bound)
        if answering is None:
            return State.NOT_HELD
        if not variant.attributes <= answering.attributes:
            return State.UNFIT
        if variant.bundle and answering.rules is not servicer.rules:
            return State.OTHER_HISTORIES
        canary = self._canaries.get(variant.name)
        return State.WITHDRAWN if canary is not None and canary.withdrawn else State.ON

    def variant_of(
        self, request: pb.RecommendRequest, servicer: "RecommendationServicer", *, bound: bool
    ) -> Variant | None:
        """The variant that answers a request; None where none has users.

        Raises:
            InvalidArgument: reason UNKNOWN_VARIANT.
            FailedPrecondition: reason VARIANT_NOT_READY.
        """
        variants = self.plan.variants
        if request.variant:
            return self._named(request.variant, servicer, bound=bound)
        if not variants:
            return None
        weights = []
        for variant in variants.values():
            state = self.state(variant, servicer, bound=bound)
            if state is State.ON:
                weights.append((variant.name, variant.percent))
            if not bound:
                self._tell(variant, servicer.version, state)
        whom = subject(request.user_id, request.history_item_ids)
        name = assigned(self.plan.experiment, weights, whom)
        return None if name is None else variants[name]

    def record(self, variant: Variant, now: float, seconds: float, *, bad: bool) -> None:
        """Counts what a request came to, and withdraws the canary that it makes pass a limit."""
        own = self._canaries.get(variant.name)
        for canary in [own] if own else self._canaries.values():
            canary.add(now, seconds, bad=bad, control=own is None)
        if own is None or own.withdrawn or (figures := own.passed()) is None:
            return
        own.withdrawn = True
        log.error("variant withdrawn", variant=variant.name, **figures)

    def _named(self, name: str, servicer: "RecommendationServicer", *, bound: bool) -> Variant:
        variant = self.plan.variants.get(name)
        if variant is None:
            raise InvalidArgument(f"there is no variant {name!r}", reason="UNKNOWN_VARIANT")
        state = self.state(variant, servicer, bound=bound)
        if state not in _READY:
            raise FailedPrecondition(
                f"variant {name!r} cannot answer here: {_because(variant, state)}",
                reason="VARIANT_NOT_READY",
                variant=name,
                state=state,
            )
        return variant

    def _tell(self, variant: Variant, serving: str, state: State) -> None:
        """Says once in the log that a variant has no users for now."""
        if state in _READY:
            self._missing.discard((variant.name, serving))
        elif (variant.name, serving) not in self._missing:
            self._missing.add((variant.name, serving))
            log.warning("variant not ready", variant=variant.name, error=_because(variant, state))


def _because(variant: Variant, state: State) -> str:
    where = f"bundle {variant.bundle!r}" if variant.bundle else "bundle"
    match state:
        case State.UNFIT:
            return f"its {where} lacks one of the attributes {sorted(variant.attributes)}"
        case State.OTHER_HISTORIES:
            return f"its {where} keeps histories elsewhere; give it the same `history`"
        case _:
            version = f"version {variant.bundle_version} of " if variant.bundle_version else ""
            return f"{version}its {where} is not held"

"""What a gateway has once, and what each of its bundles has once, whatever version answers."""

from typing import TYPE_CHECKING, cast

from core.bundle import Bundle
from gateway.admission import Admission, Turns
from gateway.calls.bundles import ServiceBundles
from gateway.calls.clients import CandidateClient, GeneratorClient
from gateway.history.stores import Histories, Stores
from gateway.metrics import GatewayMetrics
from gateway.settings import GatewaySettings
from gateway.shadow.replay import Replays
from gateway.shadow.shadow import Shadow
from gateway.variants.variants import Variants
from serving.bundles.held import HeldBundles
from serving.bundles.named import chosen

if TYPE_CHECKING:
    from gateway.servicer import RecommendationServicer


class Common:
    """What all bundles of a gateway have in common: turns, counts, and stores of histories.

    Args:
        settings: of the gateway.
        metrics: what is counted.
    """

    def __init__(self, settings: GatewaySettings, metrics: GatewayMetrics | None = None) -> None:
        self.metrics = metrics or GatewayMetrics(bundles=settings.of_bundles)
        patience = settings.max_wait_ms / 1e3
        self.turns = Turns(
            requests=Admission(settings.max_in_flight, patience),
            diagnostics=Admission(settings.max_diagnostics, patience),
        )
        self.metrics.follow(self.turns.requests)
        self.stores = Stores()
        self.bundles: dict[str, Shared] = {}
        """What each bundle has, by its name."""

    async def close(self) -> None:
        """Closes the connections of all bundles, and the stores."""
        for shared in self.bundles.values():
            await shared.close()
        await self.stores.close()


class Shared:
    """What all versions of a bundle have in common: connections with their circuits and budgets,
    and histories.

    Args:
        settings: of the gateway, as they hold for the bundle.
        common: to all its bundles.
        name: of the bundle; empty for that of calls that name none.
    """

    def __init__(
        self, settings: GatewaySettings, common: Common | None = None, name: str = ""
    ) -> None:
        self.settings = settings
        self._common = common = common or Common(settings)
        common.bundles[name] = self
        self.held = HeldBundles()
        """The versions of the bundle."""
        self.metrics = common.metrics
        self.turns = common.turns
        self.attribution = common.metrics.attribution
        self.services = common.metrics.services.of(name)
        """What is counted of the bundle's services."""
        how = ("", settings.calls, self.services)
        self.candidate = CandidateClient(settings.candidate_target, *how)
        self.generator = GeneratorClient(settings.generator_target, *how)
        self.bundles = ServiceBundles(self.candidate, self.generator)
        variants = common.metrics.variants.of(name)
        self.variants = Variants(settings.serving_file, variants, lambda: self.serving)
        replays = Replays(self.turns.requests.room, common.metrics.shadow)
        self.shadow = Shadow(self.variants, replays)

    @property
    def serving(self) -> "RecommendationServicer | None":
        """Answers what names no version; None until the first is activated."""
        serving = self.held.serving
        return None if serving is None else cast("RecommendationServicer", serving.servicer)

    def held_of(self, name: str) -> HeldBundles | None:
        """The versions of another of the gateway's bundles, or of this one where the name is empty;
        None where there is no such bundle."""
        shared = self._common.bundles.get(name) if name else self
        return None if shared is None else shared.held

    def answering(self, name: str) -> "RecommendationServicer":
        """Answers a request of a stream: any of the gateway's bundles may be named.

        Raises:
            InvalidArgument: reason UNKNOWN_BUNDLE_NAME.
            Unavailable: reason WARMING_UP.
        """
        current = chosen(self._common.bundles, name).held.current
        return cast("RecommendationServicer", current.servicer)

    def histories(self, bundle: Bundle) -> Histories:
        """Where histories are: one store for all versions, unless they are the bundle's own; blocks
        when it is first asked for.

        Raises:
            SettingsError: the store cannot be opened.
        """
        return self._common.stores.of(self.settings, bundle)

    async def close(self) -> None:
        """Ends replays, and closes the connections."""
        await self.shadow.close()
        await self.candidate.close()
        await self.generator.close()

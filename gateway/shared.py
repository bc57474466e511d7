"""What a gateway has once, whatever versions of the bundle it answers from."""

from typing import TYPE_CHECKING, cast

from core.bundle import Bundle
from gateway.admission import Admission, Turns
from gateway.attribution.ids import RecommendationIds
from gateway.calls.bundles import ServiceBundles
from gateway.calls.clients import CandidateClient, GeneratorClient
from gateway.history import HistoryStore
from gateway.history.bundle import BundleHistoryStore
from gateway.history.opening import BUNDLE, attribution_key, open_store, retention_of
from gateway.history.requests import EventRules
from gateway.history.upkeep import Upkeep
from gateway.metrics import GatewayMetrics
from gateway.settings import GatewaySettings
from gateway.variants.variants import Variants
from serving.bundles.held import HeldBundles

if TYPE_CHECKING:
    from gateway.servicer import RecommendationServicer


class Shared:
    """Connections with their circuits and budgets, histories, and the turns that calls take.

    Args:
        settings: of the gateway.
        metrics: what is counted.
        held: the versions that the process holds.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        metrics: GatewayMetrics | None = None,
        held: HeldBundles | None = None,
    ) -> None:
        self.settings = settings
        self.held = held or HeldBundles()
        self.metrics = metrics or GatewayMetrics()
        how = ("", settings.calls, self.metrics.services)
        self.candidate = CandidateClient(settings.candidate_target, *how)
        self.generator = GeneratorClient(settings.generator_target, *how)
        self.bundles = ServiceBundles(self.candidate, self.generator)
        patience = settings.max_wait_ms / 1e3
        self.turns = Turns(
            requests=Admission(settings.max_in_flight, patience),
            diagnostics=Admission(settings.max_diagnostics, patience),
        )
        self.metrics.follow(self.turns.requests)
        self.attribution = self.metrics.attribution
        self.variants = Variants(settings.serving_file, self.metrics.variants, lambda: self.serving)
        self._rules: EventRules | None = None
        self._store: HistoryStore | None = None
        self._upkeep: Upkeep | None = None

    @property
    def serving(self) -> "RecommendationServicer | None":
        """Answers what names no version; None until the first is activated."""
        serving = self.held.serving
        return None if serving is None else cast("RecommendationServicer", serving.servicer)

    def histories(self, bundle: Bundle) -> HistoryStore:
        """Where histories are: one store for all versions, unless they are the bundle's own; blocks
        when it is first asked for.

        Raises:
            SettingsError: the store cannot be opened.
        """
        if self.settings.history == BUNDLE:
            return BundleHistoryStore(bundle)
        if self._store is None:
            self._store = open_store(self.settings, bundle)
            self._upkeep = Upkeep(self._store, bundle, retention_of(self.settings))
        return self._store

    def rules(self, bundle: Bundle) -> EventRules:
        """What is made of events, with one key for all versions; blocks when it is first asked for.

        Raises:
            SettingsError: the key cannot be read or made.
        """
        if self._rules is None:
            ids = RecommendationIds(attribution_key(self.settings, bundle))
            self._rules = EventRules(ids, self.settings.history_types)
        return self._rules

    async def start(self) -> None:
        """Fills the histories with those of the first bundle, once."""
        if self._upkeep is not None and self.serving is None:
            await self._upkeep.start()

    async def close(self) -> None:
        """Closes the connections and the histories."""
        await self.candidate.close()
        await self.generator.close()
        if self._upkeep is not None:
            await self._upkeep.stop()
        if self._store is not None:
            await self._store.close()

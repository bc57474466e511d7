"""The stores of a gateway, by what its settings call them: bundles that name one store have one."""

from dataclasses import dataclass, field
from pathlib import Path

from core.bundle import Bundle
from core.errors import SettingsError
from gateway.attribution.ids import RecommendationIds
from gateway.history.bundle import BundleHistoryStore
from gateway.history.opening import BUNDLE, attribution_key, name_of, open_store, retention_of
from gateway.history.requests import EventRules
from gateway.history.store import HistoryStore
from gateway.history.upkeep import Upkeep
from gateway.settings import GatewaySettings


@dataclass
class Histories:
    """A store, and what is made of the events that go into it."""

    store: HistoryStore
    rules: EventRules
    key_file: Path | None = None
    """Of the setting; None for the default."""
    upkeep: Upkeep | None = None
    """Of a store that is not the bundle's own."""
    started: bool = field(default=False, init=False)

    async def start(self) -> None:
        """Fills the store with the histories of the bundle that it was opened for, once."""
        if self.upkeep is not None and not self.started:
            self.started = True
            await self.upkeep.start()

    async def close(self) -> None:
        """Closes the store."""
        if self.upkeep is not None:
            await self.upkeep.stop()
        await self.store.close()


class Stores:
    """Opens each store once: for the first bundle that names it, whose key and whose histories it
    has. Versions that come later find theirs open."""

    def __init__(self) -> None:
        self._open: dict[str, Histories] = {}
        self._rules: EventRules | None = None
        """Of bundles that keep their own histories: one key for all versions."""

    def of(self, settings: GatewaySettings, bundle: Bundle) -> Histories:
        """Where the histories of a bundle are; blocks when it is first asked for.

        Args:
            settings: of the bundle.
            bundle: a version of it.

        Raises:
            SettingsError: the store cannot be opened, its key cannot be read or made, or another
                bundle has opened it with another key.
        """
        name, key_file = name_of(settings, bundle), settings.history_key_file
        if name == BUNDLE:  # whose store goes with the version
            self._rules = self._rules or _rules(settings, bundle)
            return Histories(BundleHistoryStore(bundle), self._rules)
        found = self._open.get(name)
        if found is None:
            rules, store = _rules(settings, bundle), open_store(settings, bundle)
            upkeep = Upkeep(store, bundle, retention_of(settings))
            found = self._open[name] = Histories(store, rules, key_file, upkeep)
        if found.key_file != key_file:
            raise SettingsError(
                f"--history {name}: bundles that share it need one history_key_file"
            )
        return found

    async def close(self) -> None:
        """Closes all of them."""
        for histories in self._open.values():
            await histories.close()


def _rules(settings: GatewaySettings, bundle: Bundle) -> EventRules:
    ids = RecommendationIds(attribution_key(settings, bundle))
    return EventRules(ids, settings.history_types)

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
        found = self._open.get(name)
        if found is None:
            ids = RecommendationIds(attribution_key(settings, bundle))
            found = Histories(
                open_store(settings, bundle), EventRules(ids, settings.history_types), key_file
            )
            if name != BUNDLE:
                found.upkeep = Upkeep(found.store, bundle, retention_of(settings))
            self._open[name] = found
        if name == BUNDLE:
            return Histories(BundleHistoryStore(bundle), found.rules)
        if found.key_file != key_file:
            raise SettingsError(
                f"--history {name}: bundles that share it need one history_key_file"
            )
        return found

    async def close(self) -> None:
        """Closes all of them."""
        for histories in self._open.values():
            await histories.close()

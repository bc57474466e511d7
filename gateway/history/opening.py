"""Which store a gateway has: what its settings name."""

from pathlib import Path
from typing import Final

from core.bundle import Bundle
from core.errors import SettingsError
from gateway.history.bundle import BundleHistoryStore
from gateway.history.sqlite import SqliteHistoryStore
from gateway.history.store import HistoryStore, Retention
from gateway.settings import GatewaySettings

DEFAULT_DIRECTORY: Final = Path("build/history")
BUNDLE: Final = "bundle"
_REDIS: Final = ("redis://", "rediss://", "unix://")


def open_store(settings: GatewaySettings, bundle: Bundle) -> HistoryStore:
    """Opens the store that the settings name; blocks.

    Raises:
        SettingsError: it cannot be opened, or the name is none of a store.
    """
    name, retention = settings.history, retention_of(settings)
    if name is None:
        name = str(DEFAULT_DIRECTORY / f"{bundle.manifest.name}.sqlite")
    if name == BUNDLE:
        return BundleHistoryStore(bundle)
    if name.startswith(_REDIS):
        return _redis(name, settings.history_timeout, retention)
    if "://" in name:
        raise SettingsError(
            f"--history (or TANDEM_HISTORY): {name!r} is neither {BUNDLE!r}, a file, nor an "
            f"address that begins with {', '.join(_REDIS)}"
        )
    return SqliteHistoryStore.open(
        Path(name),
        retention,
        max_waiting=settings.history_max_queue,
        max_recent=settings.history_max_recent,
        scrub_share=settings.history_scrub_share,
    )


def retention_of(settings: GatewaySettings) -> Retention:
    """What the settings say of how much is kept."""
    return Retention(settings.history_max_events, settings.history_days)


def _redis(url: str, timeout: float, retention: Retention) -> HistoryStore:
    try:
        from gateway.history.redis import RedisHistoryStore
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"--history {url} needs {error.name}: pip install '.[gateway]' in Tandem's source"
        ) from error
    return RedisHistoryStore(url, retention, timeout=timeout)

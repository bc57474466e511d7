"""Which store a gateway has, and which key: what its settings name."""

import secrets
from pathlib import Path
from typing import Final

from core.bundle import Bundle
from core.errors import SettingsError
from gateway.history.sqlite import SqliteHistoryStore
from gateway.history.store import HistoryStore, Retention
from gateway.history.tombstones import UserHash
from gateway.settings import GatewaySettings

DEFAULT_DIRECTORY: Final = Path("build/history")
BUNDLE: Final = "bundle"
REDIS: Final = ("redis://", "rediss://", "unix://")


def open_store(settings: GatewaySettings, bundle: Bundle) -> HistoryStore:
    """Opens the store that the settings name, if it is not the bundle's own; blocks.

    Raises:
        SettingsError: it cannot be opened, or the name is none of a store.
    """
    name, retention = name_of(settings, bundle), retention_of(settings)
    if name.startswith(REDIS):
        return _redis(name, settings, bundle, retention)
    if "://" in name:
        raise SettingsError(
            f"--history (or TANDEM_HISTORY): {name!r} is neither {BUNDLE!r}, a file, nor an "
            f"address that begins with {', '.join(REDIS)}"
        )
    return SqliteHistoryStore.open(
        Path(name),
        retention,
        UserHash.make(_key_file(Path(name), settings)),
        max_waiting=settings.history_max_queue,
        max_recent_bytes=settings.history_max_recent_bytes,
        scrub_share=settings.history_scrub_share,
    )


def attribution_key(settings: GatewaySettings, bundle: Bundle) -> bytes:
    """The key that seals the ids of answers: of the same secret as the deleted users' hashes.

    A gateway with the bundle's histories records no events that could bring an id back: its key is
    of its process alone.

    Raises:
        SettingsError: as `open_store` does.
    """
    name = name_of(settings, bundle)
    if name == BUNDLE:
        return secrets.token_bytes(32)
    return UserHash.make(_key_file(Path(name), settings)).key_for("recommendation ids")


def name_of(settings: GatewaySettings, bundle: Bundle) -> str:
    """What the settings call the store of a bundle: a file, an address, or `BUNDLE`."""
    return settings.history or str(DEFAULT_DIRECTORY / f"{bundle.manifest.name}.sqlite")


def _key_file(path: Path, settings: GatewaySettings) -> Path:
    return settings.history_key_file or path.with_name(f"{path.name}.key")


def retention_of(settings: GatewaySettings) -> Retention:
    """What the settings say of how much is kept."""
    return Retention(
        settings.history_max_events, settings.history_days, settings.history_max_other_events
    )


def _redis(
    url: str, settings: GatewaySettings, bundle: Bundle, retention: Retention
) -> HistoryStore:
    if settings.history_key_file is None:
        raise SettingsError(
            "--history redis:// needs --history-key-file (or TANDEM_HISTORY_KEY_FILE), the same "
            "for each gateway: the secret with which the ids of deleted users are hashed"
        )
    try:
        from gateway.history.redis import RedisHistoryStore
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"--history {url} needs {error.name}: pip install '.[gateway]' in Tandem's source"
        ) from error
    path = DEFAULT_DIRECTORY / f"{bundle.manifest.name}.deleted.sqlite"
    return RedisHistoryStore(
        url,
        retention,
        UserHash.make(settings.history_key_file),
        settings.history_deleted_users or path,
        timeout=settings.history_timeout,
        max_recent_bytes=settings.history_max_recent_bytes,
    )

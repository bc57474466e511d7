"""How a process calls others of Tandem: by TLS or in the clear, and with which key."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc

from serving.files.watched import CHECK_SECONDS, Watched
from serving.security.tls import TlsFiles, channel_credentials
from tandem.channel import with_key


class Link:
    """Opens channels to services.

    Channels keep the certificates that they were made with: whoever holds one compares `generation`
    now and then, and opens another for newer files. A key is read anew by itself.

    Args:
        tls: the files; None calls in the clear.
        key_file: of the key to show; None shows none.
        check_seconds: how long files are believed.

    Raises:
        SettingsError: a file cannot be read, or says something impossible.
    """

    def __init__(
        self,
        tls: TlsFiles | None = None,
        key_file: Path | None = None,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        self._tls = tls.watched(check_seconds) if tls else None
        self._key = (
            Watched([key_file], _read_key, check_seconds=check_seconds) if key_file else None
        )

    @property
    def generation(self) -> int:
        """Another number for each change of the files of TLS."""
        if self._tls is None:
            return 0
        self._tls.current()
        return self._tls.generation

    def open(
        self, address: str, options: Sequence[tuple[str, str | int]], name: str | None = None
    ) -> grpc.aio.Channel:
        """Opens a channel.

        Args:
            address: of a server.
            options: of the channel.
            name: that the server's certificate must have; by default the one in the address.
        """
        if self._tls is None:
            return grpc.aio.insecure_channel(address, options)
        named = [("grpc.ssl_target_name_override", name)] if name else []
        credentials = channel_credentials(self._tls.current())
        return grpc.aio.secure_channel(address, credentials, [*options, *named])

    def keyed(self, channel: grpc.aio.Channel) -> Any:
        """A channel for stubs, whose calls show the key."""
        return channel if self._key is None else with_key(channel, self._key.current)


def _read_key(content: bytes) -> str:
    key = content.decode("ascii").strip()
    if not key or not key.isprintable() or " " in key:
        raise ValueError("it is no key: `tandem keys new` makes one")
    return key

"""What a caller shows of itself, and asks of a server: keys, tokens and certificates in files."""

from collections.abc import Callable
from pathlib import Path

import grpc


def key_file(path: str | Path) -> Callable[[], str]:
    """A key or a token in a file, for a client's `key`; read anew when the file has changed.

    Args:
        path: of a file that holds nothing else.

    Raises:
        OSError: it cannot be read. Later, the key that was read last stays.
    """
    file = Path(path)
    seen, key = file.stat().st_mtime_ns, file.read_text(encoding="ascii").strip()

    def current() -> str:
        nonlocal seen, key
        try:
            changed = file.stat().st_mtime_ns
            if changed != seen:
                seen, key = changed, file.read_text(encoding="ascii").strip() or key
        except (OSError, ValueError):
            pass
        return key

    return current


def tls_credentials(
    authority: str | Path | None = None,
    certificate: str | Path | None = None,
    certificate_key: str | Path | None = None,
) -> grpc.ChannelCredentials:
    """Reads PEM files for a client's `credentials`.

    A client keeps what its files said when it was made; make another one for newer files. Give
    `authority` the next authority beside the present one before servers change over.

    Args:
        authority: of the servers' certificates; those that gRPC knows where it is None.
        certificate: that the client shows, for mTLS.
        certificate_key: its private key.

    Raises:
        OSError: a file cannot be read.
    """
    files = (authority, certificate_key, certificate)
    roots, key, chain = (Path(file).read_bytes() if file else None for file in files)
    return grpc.ssl_channel_credentials(roots, key, chain)

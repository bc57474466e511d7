"""Calling a server of this machine that has TLS, to ask it for its health."""

import ssl
from pathlib import Path
from typing import Final

import grpc
from cryptography import x509

from serving.security.tls import Material, channel_credentials

SECONDS: Final = 3.0
"""How long it may take to show its certificate."""

Options = list[tuple[str, str | int]]


def own_credentials(
    host: str, port: int, certificate: Path, key: Path
) -> tuple[grpc.ChannelCredentials, Options]:
    """What it takes to call a server over the loopback, whatever its certificate is for.

    The certificate that it shows is the one that is trusted: while a new file of it is broken, the
    server shows the one before, and is well. For mTLS it is shown its own.

    Args:
        host: the loopback's address, as the server listens on it.
        port: of the server.
        certificate: the server's file, in PEM.
        key: of the certificate.

    Returns:
        The credentials of a channel, and options for it.

    Raises:
        OSError: it does not answer, or a file cannot be read.
        ValueError: the files make no sense.
    """
    shown = ssl.get_server_certificate((host, port), timeout=SECONDS).encode()
    own = Material.read([certificate.read_bytes(), key.read_bytes()], shown)
    name = _name(x509.load_pem_x509_certificate(shown))
    options: Options = [("grpc.ssl_target_name_override", name)] if name else []
    return channel_credentials(own), options


def _name(certificate: x509.Certificate) -> str | None:
    """A name that a certificate is for."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return None
    names = [*extension.value.get_values_for_type(x509.DNSName)]
    names += map(str, extension.value.get_values_for_type(x509.IPAddress))
    return names[0].replace("*", "any") if names else None

"""Certificates: what a server shows, whom it lets in, and what those show who call it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from serving.files.watched import CHECK_SECONDS, Watched

HANDSHAKE_SECONDS: Final = 20
"""How long a connection may take to be made; gRPC's own limit is two minutes."""
CONNECTION_SECONDS: Final = 3_600
"""How long a connection with TLS is used, so that a certificate that was withdrawn is not shown
for ever. Calls that are under way go on."""


@dataclass(frozen=True)
class TlsFiles:
    """The files of one side of a connection, in PEM."""

    certificate: Path | None = None
    """Its own certificate, and those between it and an authority."""
    key: Path | None = None
    """The private key of the certificate."""
    authority: Path | None = None
    """Certificates of the authorities that the other side's must be signed by."""

    @property
    def _pair(self) -> list[Path]:
        return [path for path in (self.certificate, self.key) if path]

    def watched(self, check_seconds: float = CHECK_SECONDS) -> "Watched[Material]":
        """What the files hold, kept current.

        Raises:
            SettingsError: one of them cannot be read, or they do not belong together.
        """
        paths = [*self._pair, *([self.authority] if self.authority else [])]

        def load(*contents: bytes) -> Material:
            pair, rest = contents[: len(self._pair)], contents[len(self._pair) :]
            return Material.read(pair, rest[0] if rest else None)

        return Watched(paths, load, check_seconds=check_seconds)


@dataclass(frozen=True)
class Material:
    """What TLS files hold."""

    pair: tuple[bytes, bytes] | None
    """The private key and the certificates."""
    authority: bytes | None

    @classmethod
    def read(cls, pair: Sequence[bytes], authority: bytes | None) -> "Material":
        """Checks what files hold, before gRPC takes it and every handshake fails.

        Args:
            pair: certificates and private key; or nothing.
            authority: certificates; or None.

        Raises:
            ValueError: it is not PEM, or the key is not that of the certificate.
        """
        if authority is not None:
            x509.load_pem_x509_certificates(authority)
        if not pair:
            return cls(None, authority)
        certificate, key = pair
        shown = x509.load_pem_x509_certificates(certificate)[0].public_key()
        if _encoded(shown) != _encoded(_private_key(key).public_key()):
            raise ValueError("the private key is not that of the certificate")
        return cls((key, certificate), authority)


def _private_key(pem: bytes) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(pem, password=None)
    except TypeError as error:  # it has a password
        raise ValueError(str(error)) from error


def _encoded(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """A server's side: with an authority, only callers with a certificate that it signed get in.

    New files are for the connections that are made from then on.

    Args:
        files: with a certificate and its key.

    Raises:
        SettingsError: a file cannot be read, or they do not belong together.
    """
    watched = files.watched(check_seconds=0)  # a look costs little beside a handshake
    shown = watched.generation

    def configuration() -> grpc.ServerCertificateConfiguration:
        material = watched.current()
        pairs = [material.pair] if material.pair else []
        return grpc.ssl_server_certificate_configuration(pairs, material.authority)

    def newer() -> grpc.ServerCertificateConfiguration | None:
        # None leaves what there is; the stubs of gRPC do not say so.
        nonlocal shown
        watched.current()
        if watched.generation == shown:
            return None
        shown = watched.generation
        return configuration()

    return grpc.dynamic_ssl_server_credentials(
        configuration(),
        newer,  # type: ignore[arg-type]
        require_client_authentication=files.authority is not None,
    )


def channel_credentials(material: Material) -> grpc.ChannelCredentials:
    """A caller's side, as it is now: a channel keeps what it was made with."""
    key, certificate = material.pair or (None, None)
    return grpc.ssl_channel_credentials(material.authority, key, certificate)

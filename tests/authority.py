"""A certificate authority for tests."""

import datetime as dt
import ipaddress
import uuid
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from serving.security.tls import TlsFiles

DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key, in PEM."""

    certificate: bytes
    key: bytes

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """Writes both, one after the other; returns the two files."""
        paths = directory / f"{name}.pem", directory / f"{name}.key"
        for path, content in zip(paths, (self.certificate, self.key), strict=True):
            path.write_bytes(content)
        return paths


class Authority:
    """Signs certificates."""

    def __init__(self, name: str = "authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        # Another one of the same name would be tried in its place.
        self._name = _named(f"{name} {uuid.uuid4()}")
        self.certificate = self._sign(self._name, self._key.public_key(), authority=True)

    def issue(self, name: str, *, anywhere: bool = True) -> Issued:
        """A certificate for a name, and for this machine unless it is not good anywhere."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(_named(name), key.public_key(), names=(name,), here=anywhere)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Issued(certificate, pem)

    def write(self, directory: Path, name: str = "authority") -> Path:
        """Writes its own certificate; returns the file."""
        path = directory / f"{name}.pem"
        path.write_bytes(self.certificate)
        return path

    def files(self, directory: Path, name: str) -> TlsFiles:
        """What one side needs that trusts this authority and has a certificate of it."""
        certificate, key = self.issue(name).write(directory, name)
        return TlsFiles(certificate, key, self.write(directory))

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        *,
        authority: bool = False,
        names: tuple[str, ...] = (),
        here: bool = False,
    ) -> bytes:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + DAY)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names:
            alternative: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
            if here:
                loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
                alternative += [x509.DNSName("localhost"), loopback]
            builder = builder.add_extension(
                x509.SubjectAlternativeName(alternative), critical=False
            )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

"""Who made a bundle: an Ed25519 signature of its manifest, which names every file by its digest.

`manifest.json.sig` holds the 64 bytes of the signature (RFC 8032) of `manifest.json` as it is, in
base64. Keys are PEM files, as `openssl genpkey -algorithm ed25519` makes them.
"""

import base64
import binascii
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from core.errors import BundleError, SettingsError

SIGNATURE: Final = "manifest.json.sig"
MAX_SIGNATURE_BYTES: Final = 1_024


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Reads the key that signatures are checked with.

    Raises:
        SettingsError: the file is not there, or holds another kind of key.
    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read a public key from {path}: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise SettingsError(f"{path} holds a public key, but none of Ed25519")
    return key


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Reads the key to sign with.

    Raises:
        SettingsError: the file is not there, is encrypted, or holds another kind of key.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(f"cannot read a private key from {path}: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"{path} holds a private key, but none of Ed25519")
    return key


def sign(manifest: bytes, key: Ed25519PrivateKey) -> bytes:
    """What `manifest.json.sig` holds for a manifest."""
    return base64.b64encode(key.sign(manifest)) + b"\n"


def check_signature(directory: Path, manifest: bytes, key: Ed25519PublicKey) -> None:
    """Checks that a bundle was signed with the key's other half.

    Args:
        directory: of the bundle.
        manifest: the bytes of its manifest.
        key: to check with.

    Raises:
        BundleError: it has no signature, or another one.
    """
    file = directory / SIGNATURE
    try:
        with file.open("rb") as opened:
            signature = base64.b64decode(opened.read(MAX_SIGNATURE_BYTES).strip(), validate=True)
    except OSError as error:
        raise BundleError(
            f"{directory} is not signed: it has no readable {SIGNATURE}; sign it with "
            "`tandem bundle sign`"
        ) from error
    except binascii.Error as error:
        raise BundleError(f"{file} is not a signature in base64") from error
    try:
        key.verify(signature, manifest)
    except InvalidSignature as error:
        raise BundleError(
            f"{file} is not a signature of this manifest by the key that is trusted here"
        ) from error

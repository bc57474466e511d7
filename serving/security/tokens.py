"""Callers that show a JWT (RFC 7519), whose `scope` (RFC 8693) names their rights."""

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final, Literal

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from core.errors import Unauthenticated
from serving.security.rights import Right

Algorithm = Literal["HS256", "RS256", "EdDSA"]

MIN_SECRET_BYTES: Final = 32
MIN_RSA_BITS: Final = 2048
MAX_SUBJECT: Final = 128
REMEMBERED: Final = 1_000
"""Tokens whose signature is not computed again."""


@dataclass(frozen=True)
class Verified:
    """What a good token says."""

    subject: str
    rights: frozenset[Right]
    expires: float
    """Seconds since 1970."""


class TokenVerifier:
    """Tells good tokens of an issuer from others.

    The algorithm is the verifier's: what a token says of it is compared, and never followed.

    Args:
        algorithm: of the signatures.
        key: a secret of at least 32 bytes for HS256, a public key in PEM for the others.
        issuer: the `iss` of good tokens.
        audience: in the `aud` of good tokens.

    Raises:
        ValueError: the key is none for the algorithm.
    """

    def __init__(self, algorithm: Algorithm, key: bytes, issuer: str, audience: str) -> None:
        self._algorithm = algorithm
        self._key = _read_key(algorithm, key)
        self._issuer = issuer
        self._audience = audience
        self._seen: OrderedDict[str, Verified] = OrderedDict()

    def verify(self, token: str) -> Verified | None:
        """What a token says; None where it is not this issuer's, or not good.

        Raises:
            Unauthenticated: reason CREDENTIALS_EXPIRED.
        """
        verified = self._seen.get(token) or self._read(token)
        if verified is None:
            return None
        if verified.expires <= time.time():
            self._seen.pop(token, None)
            raise _expired()
        self._seen[token] = verified
        self._seen.move_to_end(token)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return verified

    def _read(self, token: str) -> Verified | None:
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[self._algorithm],
                issuer=self._issuer,
                audience=self._audience,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise _expired() from None
        except (jwt.PyJWTError, ValueError):
            return None
        subject, scope = claims["sub"], claims.get("scope", "")
        if not subject or len(subject) > MAX_SUBJECT or not isinstance(scope, str):
            return None
        words = scope.split()
        rights = frozenset(right for right in Right if right in words)
        return Verified(subject, rights, float(claims["exp"]))


def _read_key(algorithm: Algorithm, content: bytes) -> Any:
    if algorithm == "HS256":
        secret = content.strip()
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f"the secret of HS256 has at least {MIN_SECRET_BYTES} bytes")
        return secret
    key = load_pem_public_key(content)
    fits = (
        isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS
        if algorithm == "RS256"
        else isinstance(key, Ed25519PublicKey)
    )
    if not fits:
        raise ValueError(f"the key of {algorithm} is another kind of key, or too short")
    return key


def _expired() -> Unauthenticated:
    return Unauthenticated("the token has expired", reason="CREDENTIALS_EXPIRED")

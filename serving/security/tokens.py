"""Callers that show a JWT (RFC 7519), whose `scope` (RFC 8693) names their rights."""

import time
from collections import OrderedDict
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationInfo, field_validator

from core.errors import Unauthenticated
from serving.security.rights import Right

MIN_SECRET_BYTES: Final = 32
MIN_RSA_BITS: Final = 2048
MAX_SUBJECT: Final = 128
REMEMBERED: Final = 1_000
"""Tokens whose signature is not computed again."""

_Verified = tuple[str, frozenset[Right], float]


class TokenIssuer(BaseModel):
    """Who signs tokens, how, and for whom.

    The algorithm is the file's: what a token says of it is compared, and never followed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    algorithm: Literal["HS256", "RS256", "EdDSA"]
    key_file: Path
    issuer: Annotated[str, Field(min_length=1)]
    audience: Annotated[str, Field(min_length=1)]
    _key: Any = PrivateAttr()
    _seen: "OrderedDict[str, _Verified]" = PrivateAttr(default_factory=OrderedDict)

    @field_validator("key_file")
    @classmethod
    def _beside(cls, path: Path, info: ValidationInfo) -> Path:
        return Path(info.context or ".") / path

    def model_post_init(self, _context: object) -> None:
        """Reads the key.

        Raises:
            ValueError: it cannot be read, or is none for the algorithm.
        """
        try:
            self._key = _read_key(self.algorithm, self.key_file.read_bytes())
        except OSError as error:
            raise ValueError(f"cannot read {self.key_file}: {error.strerror}") from error

    def verify(self, token: str) -> tuple[str, frozenset[Right]] | None:
        """Who a token was given to, and what that may do; None where it is not this issuer's.

        Raises:
            Unauthenticated: reason CREDENTIALS_EXPIRED.
        """
        seen = self._seen.get(token) or self._read(token)
        if seen is None:
            return None
        subject, rights, expires = seen
        if expires <= time.time():
            self._seen.pop(token, None)
            raise _expired()
        self._seen[token] = seen
        self._seen.move_to_end(token)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return subject, rights

    def _read(self, token: str) -> _Verified | None:
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[self.algorithm],
                issuer=self.issuer,
                audience=self.audience,
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
        return subject, frozenset(right for right in Right if right in words), float(claims["exp"])


def _read_key(algorithm: str, content: bytes) -> Any:
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

"""Who may call: keys, tokens and certificates, and whom each of them belongs to."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from core.errors import Unauthenticated
from serving.security.rights import Right
from serving.security.tokens import TokenVerifier

MAX_CREDENTIAL_BYTES: Final = 8 * 2**10
"""A longer one is not looked at."""


@dataclass(frozen=True)
class Quota:
    """How often somebody may call; None is without limit."""

    per_second: int | None = None
    per_minute: int | None = None


@dataclass(frozen=True)
class Caller:
    """Who calls, as far as is known, and what that may do."""

    name: str
    """Such as `key:shop`; the same for every call."""
    rights: frozenset[Right] = frozenset()
    quota: Quota = field(default_factory=Quota)


@dataclass(frozen=True)
class Key:
    """A key, of which only the digest is known."""

    caller: Caller
    digests: Sequence[str]
    """SHA-256, in hexadecimal; two while one key takes the other's place."""
    expires: datetime | None = None


_NOBODY: Final = Key(Caller(""), ("0" * 64,))
"""What is compared where there is no such key, so that it takes as long."""


@dataclass(frozen=True)
class Keyring:
    """Everybody who may call."""

    anonymous: Caller
    """Who shows nothing."""
    keys: Mapping[str, Key]
    certificates: Mapping[str, Caller]
    """By a name in the certificate."""
    tokens: Sequence[tuple[TokenVerifier, Quota]]
    """Those whose tokens are good, and how often each subject of theirs may call."""

    def authenticate(self, credential: str) -> Caller:
        """Who shows a key or a token.

        Raises:
            Unauthenticated: reason INVALID_CREDENTIALS or CREDENTIALS_EXPIRED.
        """
        if len(credential) > MAX_CREDENTIAL_BYTES:
            raise invalid()
        if credential.count(".") == 2:
            return self._bearer(credential)
        key = self.keys.get(credential.partition(".")[0])
        digest = digest_of(credential)
        matches = [hmac.compare_digest(digest, known) for known in (key or _NOBODY).digests]
        if key is None or not any(matches):
            raise invalid()
        if key.expires is not None and key.expires <= datetime.now(UTC):
            raise Unauthenticated("the key has expired", reason="CREDENTIALS_EXPIRED")
        return key.caller

    def certified(self, names: Iterable[str]) -> Caller | None:
        """Who has a certificate with these names, of which the first that is known counts."""
        known = (self.certificates[name] for name in names if name in self.certificates)
        return next(known, None)

    def _bearer(self, token: str) -> Caller:
        for verifier, quota in self.tokens:
            if verified := verifier.verify(token):
                return Caller(f"token:{verified.subject}", verified.rights, quota)
        raise invalid()


def make_key(name: str) -> tuple[str, str]:
    """Makes a key, `NAME.SECRET`.

    The secret has 256 random bits: nobody can guess it, so its digest need not be a slow one, for
    which every call would pay.

    Returns:
        The key, and its digest.
    """
    key = f"{name}.{secrets.token_urlsafe(32)}"
    return key, digest_of(key)


def digest_of(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


def invalid() -> Unauthenticated:
    """The same for each that is no good: it does not say what is wrong with it."""
    return Unauthenticated("the credentials are not good", reason="INVALID_CREDENTIALS")

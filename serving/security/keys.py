"""The file of keys: who may call, and what each may do.

    [anonymous]                        # callers that show nothing
    rights = ["recommend", "similar"]

    [keys.shop]
    sha256 = "…"                       # of the key; two while one takes the other's place
    rights = ["recommend", "similar", "events"]
    calls_per_second = 200

    [certificates."gateway.internal"]  # a name in a caller's certificate, with mTLS
    rights = ["internal"]

    [[tokens]]                         # JWTs, whose `scope` names rights; an issuer's or a key's
    algorithm = "EdDSA"
    key_file = "issuer.pem"
    issuer = "https://id.example.com"
    audience = "tandem"

A key is `NAME.SECRET`. `tandem keys new` makes one, of 256 random bits, and keeps its digest alone:
a secret that nobody can guess needs no slow digest, which every call would pay for.
"""

import hashlib
import hmac
import secrets
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
)

from core.errors import Unauthenticated
from serving.security.rights import PROTECTED, Right
from serving.security.tokens import TokenIssuer
from serving.security.watched import Watched

MAX_CREDENTIAL_BYTES: Final = 8 * 2**10
"""A longer one is not looked at."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Digests = Annotated[
    tuple[Digest, ...],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    Field(min_length=1, max_length=4),
]


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


class Allowance(BaseModel):
    """What somebody may do, and how often."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rights: frozenset[Right] = frozenset()
    calls_per_second: int | None = Field(default=None, gt=0)
    calls_per_minute: int | None = Field(default=None, gt=0)

    def caller(self, name: str) -> Caller:
        """Whom it is given to."""
        return Caller(name, self.rights, Quota(self.calls_per_second, self.calls_per_minute))


class Anonymous(Allowance):
    """What callers without credentials may do."""

    @field_validator("rights")
    @classmethod
    def _harmless(cls, rights: frozenset[Right]) -> frozenset[Right]:
        if forbidden := sorted(rights & PROTECTED):
            raise ValueError(f"nobody has {', '.join(forbidden)} without credentials")
        return rights


class Key(Allowance):
    """A key."""

    sha256: Digests
    expires: AwareDatetime | None = None


class Tokens(TokenIssuer):
    """Tokens of an issuer; each subject has the quota."""

    calls_per_second: int | None = Field(default=None, gt=0)
    calls_per_minute: int | None = Field(default=None, gt=0)


class Keyring(BaseModel):
    """Everybody who may call."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    anonymous: Anonymous = Anonymous()
    keys: Mapping[Name, Key] = {}
    certificates: Mapping[str, Allowance] = {}
    tokens: Annotated[tuple[Tokens, ...], Field(max_length=4)] = ()

    @classmethod
    def read(cls, content: bytes, directory: Path) -> Self:
        """Reads a file.

        Args:
            content: of the file.
            directory: that paths in it are relative to.

        Raises:
            ValueError: it is not TOML, or says something impossible.
        """
        try:
            return cls.model_validate(tomllib.loads(content.decode()), context=directory)
        except ValidationError as error:
            raise ValueError("; ".join(map(_explain, error.errors(include_url=False)))) from None

    def authenticate(self, credential: str) -> Caller:
        """Who shows a key or a token.

        Raises:
            Unauthenticated: reason INVALID_CREDENTIALS or CREDENTIALS_EXPIRED.
        """
        if len(credential) > MAX_CREDENTIAL_BYTES:
            raise invalid()
        if credential.count(".") == 2:
            return self._bearer(credential)
        name = credential.partition(".")[0]
        key = self.keys.get(name)
        matches = [_matches(credential, digest) for digest in (key or _NOBODY).sha256]
        if key is None or not any(matches):
            raise invalid()
        if key.expires is not None and key.expires <= datetime.now(UTC):
            raise Unauthenticated("the key has expired", reason="CREDENTIALS_EXPIRED")
        return key.caller(f"key:{name}")

    def certified(self, names: Iterable[str]) -> Caller | None:
        """Who has a certificate with these names, of which the first that is known counts."""
        for name in names:
            if name in self.certificates:
                return self.certificates[name].caller(f"certificate:{name}")
        return None

    @property
    def nobody(self) -> Caller:
        """Who shows nothing."""
        return self.anonymous.caller("anonymous")

    def _bearer(self, token: str) -> Caller:
        for issuer in self.tokens:
            if verified := issuer.verify(token):
                subject, rights = verified
                quota = Quota(issuer.calls_per_second, issuer.calls_per_minute)
                return Caller(f"token:{subject}", rights, quota)
        raise invalid()


_NOBODY: Final = Key(sha256=("0" * 64,))
"""What is compared where there is no such key, so that it takes as long."""


def watch_keys(path: Path) -> Watched[Keyring]:
    """The keys in a file, kept current.

    Raises:
        SettingsError: it cannot be read, or says something impossible.
    """
    return Watched([path], lambda content: Keyring.read(content, path.parent))


def make_key(name: str) -> tuple[str, str]:
    """Makes a key.

    Returns:
        The key, and its digest.
    """
    key = f"{name}.{secrets.token_urlsafe(32)}"
    return key, _digest(key)


def invalid() -> Unauthenticated:
    """The same for each that is no good: it does not say what is wrong with it."""
    return Unauthenticated("the credentials are not good", reason="INVALID_CREDENTIALS")


def _matches(credential: str, digest: str) -> bool:
    return hmac.compare_digest(_digest(credential), digest)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


def _explain(problem: Mapping[str, object]) -> str:
    """Says where, and never what stands there: it may be a secret."""
    where = ".".join(map(str, problem["loc"]))  # type: ignore[call-overload]
    return f"{where}: {problem['msg']}"

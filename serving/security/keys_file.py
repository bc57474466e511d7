"""The file that says who may call, and what each may do.

[anonymous]                        # callers that show nothing
rights = ["recommend", "similar"]

[keys.shop]
sha256 = "…"                       # of the key; a list of two while one replaces the other
rights = ["recommend", "similar", "events"]
calls_per_second = 200

[certificates."gateway.internal"]  # a name in a caller's certificate, with mTLS
rights = ["internal"]

[[tokens]]                         # JWTs; one such table for each issuer, or for each key
algorithm = "EdDSA"
key_file = "issuer.pem"
issuer = "https://id.example.com"
audience = "tandem"
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
)

from serving.files.tables import read_tables
from serving.files.watched import Watched
from serving.security.keyring import Caller, Key, Keyring, Quota
from serving.security.rights import PROTECTED, Right
from serving.security.tokens import Algorithm, TokenVerifier

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Digests = Annotated[
    tuple[Digest, ...],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    Field(min_length=1, max_length=4),
]
Calls = Annotated[int | None, Field(gt=0)]


class Limited(BaseModel):
    """Who may call only so often."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calls_per_second: Calls = None
    calls_per_minute: Calls = None

    @property
    def quota(self) -> Quota:
        """How often."""
        return Quota(self.calls_per_second, self.calls_per_minute)


class Allowance(Limited):
    """Who may do something."""

    rights: frozenset[Right] = frozenset()

    def caller(self, name: str) -> Caller:
        """Who that is."""
        return Caller(name, self.rights, self.quota)


class AnonymousTable(Allowance):
    """What callers without credentials may do."""

    @field_validator("rights")
    @classmethod
    def _harmless(cls, rights: frozenset[Right]) -> frozenset[Right]:
        if forbidden := sorted(rights & PROTECTED):
            raise ValueError(f"nobody has {', '.join(forbidden)} without credentials")
        return rights


class KeyTable(Allowance):
    """A key."""

    sha256: Digests
    expires: AwareDatetime | None = None


class TokensTable(Limited):
    """An issuer of tokens; the quota is that of each subject."""

    algorithm: Algorithm
    key_file: Path
    issuer: Annotated[str, Field(min_length=1)]
    audience: Annotated[str, Field(min_length=1)]

    def verifier(self, directory: Path) -> TokenVerifier:
        """Reads the key.

        Raises:
            ValueError: it cannot be read, or is none for the algorithm.
        """
        path = directory / self.key_file
        try:
            return TokenVerifier(self.algorithm, path.read_bytes(), self.issuer, self.audience)
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror}") from error


class KeysFile(BaseModel):
    """The file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    anonymous: AnonymousTable = AnonymousTable()
    keys: Mapping[Name, KeyTable] = {}
    certificates: Mapping[str, Allowance] = {}
    tokens: Annotated[tuple[TokensTable, ...], Field(max_length=4)] = ()


def read_keys(content: bytes, directory: Path) -> Keyring:
    """Reads a file.

    Args:
        content: of the file.
        directory: that paths in it are relative to.

    Raises:
        ValueError: it is not TOML, or says something impossible.
    """
    file = read_tables(content, KeysFile)
    return Keyring(
        file.anonymous.caller("anonymous"),
        {
            name: Key(table.caller(f"key:{name}"), table.sha256, table.expires)
            for name, table in file.keys.items()
        },
        {name: table.caller(f"certificate:{name}") for name, table in file.certificates.items()},
        [(table.verifier(directory), table.quota) for table in file.tokens],
    )


def watch_keys(path: Path) -> Watched[Keyring]:
    """The keys in a file, kept current.

    Raises:
        SettingsError: it cannot be read, or says something impossible.
    """
    return Watched([path], lambda content: read_keys(content, path.parent))

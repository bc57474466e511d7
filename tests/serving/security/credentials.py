"""Keys, tokens, and the file that says what they may do, for tests."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from core.errors import TandemError
from serving.security.guard import Guard
from serving.security.keyring import make_key
from serving.security.keys_file import watch_keys

ISSUER, AUDIENCE = "https://id.example.com", "tandem"


@dataclass
class KeysFile:
    """A file of keys, and the keys that are in it."""

    path: Path
    keys: dict[str, str] = field(default_factory=dict)
    issuer: ed25519.Ed25519PrivateKey = field(default_factory=ed25519.Ed25519PrivateKey.generate)
    text: str = ""

    def add(self, name: str, rights: Iterable[str], **more: object) -> str:
        """Adds a key; returns it."""
        self.keys[name], digest = make_key(name)
        lines = [f'sha256 = "{digest}"', f"rights = {sorted(map(str, rights))}"]
        lines += [f"{key} = {value}" for key, value in more.items()]
        self.write(f"[keys.{name}]", *lines)
        return self.keys[name]

    def trust_tokens(self, **more: object) -> "KeysFile":
        """Says whose tokens are good."""
        pem = self.issuer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (self.path.parent / "issuer.pem").write_bytes(pem)
        self.write(
            "[[tokens]]",
            'algorithm = "EdDSA"',
            'key_file = "issuer.pem"',
            f'issuer = "{ISSUER}"',
            f'audience = "{AUDIENCE}"',
            *(f"{key} = {value}" for key, value in more.items()),
        )
        return self

    def token(self, scope: Any, **claims: Any) -> str:
        """A token of the issuer, good for a minute unless the claims say otherwise."""
        return jwt.encode(self.claims(scope, **claims), self.issuer, "EdDSA")

    def claims(self, scope: Any, **claims: Any) -> dict[str, Any]:
        all_of_them = {
            "sub": "ann",
            "iss": ISSUER,
            "aud": AUDIENCE,
            "exp": time.time() + 60,
            "scope": scope,
        } | claims
        return {name: value for name, value in all_of_them.items() if value is not None}

    def write(self, *lines: str) -> None:
        """Appends lines."""
        self.text += "\n".join((*lines, "", ""))
        self.path.write_text(self.text, encoding="utf-8")


def bearer(credential: str | None) -> tuple[tuple[str, str], ...]:
    """The metadata that shows a key or a token."""
    return () if credential is None else (("authorization", f"Bearer {credential}"),)


async def reason(guard: Guard, method: str, credential: str | None = None) -> str:
    """Why a call is refused; empty where it is let in."""
    try:
        await guard.admit(method, bearer(credential))
    except TandemError as error:
        return error.reason
    return ""


def guard_of(keys: KeysFile, **more: Any) -> Guard:
    return Guard(watch_keys(keys.path), **more)

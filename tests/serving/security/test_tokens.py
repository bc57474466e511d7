"""Tokens: whose are good, what they say, and for how long."""

import hmac
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from core.errors import SettingsError
from serving.security.keys_file import read_keys, watch_keys
from tests.serving.security.credentials import AUDIENCE, ISSUER, KeysFile, guard_of, reason

RECOMMEND = "/tandem.v1.RecommendationService/Recommend"


class TestToken:
    async def reason(self, keys: KeysFile, token: str) -> str:
        return await reason(guard_of(keys.trust_tokens()), RECOMMEND, token)

    async def test_its_scope_gives_rights(self, keys: KeysFile) -> None:
        assert await self.reason(keys, keys.token("recommend")) == ""

    @pytest.mark.parametrize(
        "claims",
        [
            {"iss": "https://other.example.com"},
            {"aud": "other"},
            {"exp": None},
            {"sub": None},
            {"iss": None},
            {"aud": None},
            {"sub": "x" * 200},
            {"scope": ["recommend"]},
            {"nbf": 4e9},
        ],
        ids=str,
    )
    async def test_its_claims_are_checked(self, keys: KeysFile, claims: dict[str, Any]) -> None:
        token = keys.token(**{"scope": "recommend", **claims})
        assert await self.reason(keys, token) == "INVALID_CREDENTIALS"

    async def test_nobody_else_signs_it(self, keys: KeysFile) -> None:
        foreign = jwt.encode(
            keys.claims("recommend"), ed25519.Ed25519PrivateKey.generate(), "EdDSA"
        )
        assert await self.reason(keys, foreign) == "INVALID_CREDENTIALS"

    async def test_it_does_not_choose_its_algorithm(self, keys: KeysFile) -> None:
        """Neither none, nor the public key taken for the secret of HS256."""
        claims = keys.claims("recommend")
        pem = keys.issuer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        unsigned = jwt.encode(claims, "", "none")
        head, body, _ = jwt.encode(claims, "x" * 32, "HS256").split(".")
        signature = hmac.new(pem, f"{head}.{body}".encode(), "sha256").digest()
        confused = f"{head}.{body}.{jwt.utils.base64url_encode(signature).decode()}"
        for token in (unsigned, confused):
            assert await self.reason(keys, token) == "INVALID_CREDENTIALS"

    async def test_one_that_was_seen_expires_too(
        self, keys: KeysFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        guard = guard_of(keys.trust_tokens())
        token = keys.token("recommend")
        assert await reason(guard, RECOMMEND, token) == ""
        later = time.time() + 61
        monkeypatch.setattr(time, "time", lambda: later)
        assert await reason(guard, RECOMMEND, token) == "CREDENTIALS_EXPIRED"

    async def test_what_is_remembered_is_bounded(
        self, keys: KeysFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("serving.security.tokens.REMEMBERED", 10)
        keyring = read_keys(keys.trust_tokens().path.read_bytes(), keys.path.parent)
        for user in range(50):
            keyring.authenticate(keys.token("recommend", sub=f"user-{user}"))
        assert len(keyring.tokens[0][0]._seen) == 10

    @pytest.mark.parametrize("algorithm", ["RS256", "HS256"])
    async def test_other_algorithms(self, keys: KeysFile, algorithm: str) -> None:
        key: Any = "s" * 32
        public = key.encode()
        if algorithm == "RS256":
            key = rsa.generate_private_key(65537, 2048)
            public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (keys.path.parent / "key").write_bytes(public)
        keys.write(
            f'[[tokens]]\nalgorithm = "{algorithm}"\nkey_file = "key"',
            f'issuer = "{ISSUER}"\naudience = "{AUDIENCE}"',
        )
        guard = guard_of(keys)
        token = jwt.encode(keys.claims("recommend"), key, algorithm)
        assert await reason(guard, RECOMMEND, token) == ""
        # An issuer beside it is asked too.
        keys.trust_tokens()
        assert await reason(guard_of(keys), RECOMMEND, keys.token("recommend")) == ""

    @pytest.mark.parametrize(
        ("algorithm", "content"), [("HS256", b"short"), ("RS256", b"no key"), ("EdDSA", b"")]
    )
    def test_a_key_that_is_none_is_refused(
        self, keys: KeysFile, algorithm: str, content: bytes
    ) -> None:
        (keys.path.parent / "key").write_bytes(content)
        keys.write(
            f'[[tokens]]\nalgorithm = "{algorithm}"\nkey_file = "key"',
            f'issuer = "{ISSUER}"\naudience = "{AUDIENCE}"',
        )
        with pytest.raises(SettingsError):
            watch_keys(keys.path)

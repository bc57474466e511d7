"""Who is signed in: the key that a visitor has shown, sealed in a cookie of the browser's."""

import base64
import hashlib
import secrets
from pathlib import Path
from typing import Final

from cryptography.fernet import Fernet, InvalidToken
from starlette.requests import Request
from starlette.responses import Response

from core.errors import SettingsError

MIN_SECRET_BYTES: Final = 32
MAX_KEY: Final = 2_048
"""Characters of a key or a token; a cookie has room for about twice as many bytes."""


class Sessions:
    """Seals keys and opens them again.

    A session is nothing but its cookie, encrypted and authenticated (Fernet): the console keeps
    none, and a cookie alone shows nothing. Scripts cannot read it, and no other site's page sends
    it.

    Args:
        secret: of at least 32 bytes; None for one of this process alone.
        seconds: that a session lasts.
        secure: whether the cookie is sent by TLS alone.
    """

    def __init__(self, secret: bytes | None, seconds: float, *, secure: bool) -> None:
        material = hashlib.sha256(b"tandem console session" + (secret or secrets.token_bytes(32)))
        self._box = Fernet(base64.urlsafe_b64encode(material.digest()))
        self._seconds = int(seconds)
        self._secure = secure
        self.cookie = "__Host-tandem-console" if secure else "tandem-console"
        """Its name."""

    def key_of(self, request: Request) -> str:
        """The key that was shown; empty where nobody is signed in, or no longer."""
        sealed = request.cookies.get(self.cookie, "")
        try:
            return self._box.decrypt(sealed.encode("ascii"), ttl=self._seconds).decode("ascii")
        except (InvalidToken, ValueError):
            return ""

    def begin(self, response: Response, key: str) -> None:
        """Remembers a key, which is ASCII."""
        sealed = self._box.encrypt(key.encode("ascii")).decode("ascii")
        response.set_cookie(
            self.cookie,
            sealed,
            max_age=self._seconds,
            path="/",
            secure=self._secure,
            httponly=True,
            samesite="strict",
        )

    def end(self, response: Response) -> None:
        """Forgets it."""
        response.delete_cookie(
            self.cookie, path="/", secure=self._secure, httponly=True, samesite="strict"
        )


def read_secret(file: Path) -> bytes:
    """Reads what sessions are sealed with.

    Raises:
        SettingsError: it cannot be read, or is too short.
    """
    try:
        secret = file.read_bytes().strip()
    except OSError as error:
        raise SettingsError(f"cannot read the secret in {file}: {error.strerror}") from error
    if len(secret) < MIN_SECRET_BYTES:
        raise SettingsError(f"the secret in {file} has under {MIN_SECRET_BYTES} bytes")
    return secret


def is_same_site(request: Request) -> bool:
    """Whether a request that changes something comes from a page of the console's own.

    As browsers say it themselves, which pages cannot change. A request that says neither is no
    browser's, and brings no cookie that it was not given.
    """
    fetched = request.headers.get("sec-fetch-site")
    if fetched is not None:
        return fetched in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host")

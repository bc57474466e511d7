"""Decides whether a call is let in: by what it shows, and the right that its RPC needs.

    metadata ──▶ who calls ──▶ may it? ──▶ how often?
    certificate ──┘

Without a file of keys a server trusts its own machine: on the loopback everything is open. Off the
loopback it then refuses what needs one of the `PROTECTED` rights.
"""

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Final, Protocol

from core.errors import PermissionDenied, ResourceExhausted, TandemError, Unauthenticated
from serving.files.watched import Watched
from serving.security.keyring import Caller, Keyring, invalid
from serving.security.rights import RULES, Rule

AUTHORIZATION: Final = "authorization"
"""The metadata key that a caller shows `Bearer` and a key or a token under."""

ANYBODY: Final = Caller("anybody")
"""Whoever calls a server that has no keys, or what is open to all."""
caller: ContextVar[Caller | None] = ContextVar("caller", default=None)
"""Who makes the call that is being served."""

Metadata = Iterable[tuple[str, str | bytes]]


class Quotas(Protocol):
    """Counts calls."""

    async def spend(self, caller: Caller) -> float | None:
        """Counts a call of somebody who has a quota.

        Returns:
            None where it is within that; else the seconds after which to try again.
        """

    async def close(self) -> None:
        """Counts no more."""


class Guard:
    """Lets calls in, or says why not.

    Args:
        keys: who may call; None without a file of keys.
        exposed: whether the server listens off the loopback.
        certified: whether callers show certificates.
        quotas: counts the calls of those who have a quota; None counts none.
        rules: of the RPCs, by their paths.
    """

    def __init__(
        self,
        keys: Watched[Keyring] | None = None,
        *,
        exposed: bool = False,
        certified: bool = False,
        quotas: Quotas | None = None,
        rules: Mapping[str, Rule] = RULES,
    ) -> None:
        self._keys = keys
        self._exposed = exposed
        self._certified = certified
        self._quotas = quotas
        self._rules = rules

    async def admit(self, method: str, metadata: Metadata) -> None:
        """Decides by what a call shows in its metadata, and remembers whose it is.

        Where it shows nothing there and callers have certificates, which are not at hand yet,
        `caller` is None, and `admit_certified` decides.

        Args:
            method: by its path, such as `/tandem.v1.CandidateService/Search`.
            metadata: of the call.

        Raises:
            Unauthenticated: reason NO_CREDENTIALS, INVALID_CREDENTIALS or CREDENTIALS_EXPIRED.
            PermissionDenied: reason MISSING_RIGHT.
            ResourceExhausted: reason QUOTA_EXCEEDED.
        """
        rule = self._rules.get(method)
        if rule is None:
            raise PermissionDenied("no rule says who may call this", reason="MISSING_RIGHT")
        if self._keys is None and self._exposed and rule.protected:
            raise _no_keys()
        if self._keys is None or not rule.rights:
            caller.set(ANYBODY)
            return
        keys = self._keys.current()
        credential = _shown(metadata)
        if credential is not None:
            await self._enter(keys.authenticate(credential), rule)
        elif self._certified:
            caller.set(None)
        else:
            await self._enter(keys.anonymous, rule)

    async def admit_certified(
        self, method: str, peer: Callable[[], Mapping[str, Iterable[bytes]]]
    ) -> None:
        """Decides by the caller's certificate, where `admit` has left it to that.

        Args:
            method: by its path.
            peer: gRPC's `auth_context`, which says what the handshake has checked.

        Raises:
            TandemError: as `admit` does.
        """
        if self._keys is None or caller.get() is not None:
            return
        keys = self._keys.current()
        await self._enter(keys.certified(_names(peer())) or keys.anonymous, self._rules[method])

    async def _enter(self, who: Caller, rule: Rule) -> None:
        if rule.rights and rule.rights.isdisjoint(who.rights):
            raise _missing(who, rule)
        limited = who.quota.per_second or who.quota.per_minute
        if limited and self._quotas is not None:
            seconds = await self._quotas.spend(who)
            if seconds is not None:
                raise ResourceExhausted(
                    f"{who.name} has made as many calls as it may",
                    reason="QUOTA_EXCEEDED",
                    retry_after=seconds,
                )
        caller.set(who)


def owner_of(connection: str) -> str:
    """Whom the call that is being served is counted for: its caller, where that is known.

    Args:
        connection: by the other side's address and port: all that is known of strangers.
    """
    who = caller.get()
    return who.name if who and ":" in who.name else connection


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on an address."""
    if host == "localhost" or host.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:  # a name, which may stand for any address
        return False


def _shown(metadata: Metadata) -> str | None:
    """The key or token that a call shows; None where it shows none."""
    shown = [value for key, value in metadata if key == AUTHORIZATION]
    if not shown:
        return None
    scheme, _, credential = str(shown[0]).partition(" ")
    if len(shown) > 1 or scheme.lower() != "bearer" or not credential:
        raise invalid()
    return credential


def _names(peer: Mapping[str, Iterable[bytes]]) -> list[str]:
    """The names in a certificate: the alternative ones, then the common name."""
    kinds = ("x509_subject_alternative_name", "x509_common_name")
    return [name.decode(errors="replace") for kind in kinds for name in peer.get(kind, ())]


def _missing(who: Caller, rule: Rule) -> TandemError:
    rights = " or ".join(sorted(rule.rights))
    if who.name == "anonymous":
        return Unauthenticated(
            f"show a key or a token that has the right {rights}", reason="NO_CREDENTIALS"
        )
    return PermissionDenied(f"{who.name} has not the right {rights}", reason="MISSING_RIGHT")


def _no_keys() -> Unauthenticated:
    return Unauthenticated(
        "this server listens off the loopback without keys, and refuses this to everybody: "
        "set --keys-file (or TANDEM_KEYS_FILE)",
        reason="NO_CREDENTIALS",
    )

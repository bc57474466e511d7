"""How Tandem's callers connect: retries, keepalive and quick reconnection.

The gateway uses the same options towards its services as `tandem.Client` towards the gateway, but
counts and places retries itself.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, cast

import grpc

ChannelOptions = list[tuple[str, str | int]]
Metadata = Sequence[tuple[str, str | bytes]]
C = TypeVar("C", grpc.Channel, grpc.aio.Channel)

MAX_ANSWER_BYTES: Final = 64 * 2**20
"""The largest answer that is sent and taken: more than a thousand of the largest items that a
catalog accepts. gRPC's own limit of 4 MiB would be that of what is received alone."""


def channel_options(
    services: Sequence[str],
    *,
    retries: bool = True,
    health_of: str | None = None,
    max_answer_bytes: int = MAX_ANSWER_BYTES,
) -> ChannelOptions:
    """Options for a gRPC channel to the named protobuf services.

    Every call of these services may be made twice, for it reads, or says what is so afterwards. It
    is retried on UNAVAILABLE only, since the other codes mean that a server took the call and that
    the same would happen again. The attempts go on for a second, longer than a connection waits to
    be made anew, so that the first call after a server came back is answered. Retries stop while
    more than a tenth of the calls fail: a server in trouble needs fewer, not more.

    Args:
        services: full names.
        retries: whether gRPC retries; without, the caller does.
        health_of: a service that servers are asked for the health of; those that say that they do
            not serve are not called. Servers without a health service are called.
        max_answer_bytes: the largest answer that is taken; -1 for any.
    """
    config: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if health_of is not None:
        config["healthCheckConfig"] = {"serviceName": health_of}
    if retries:
        config["methodConfig"] = [
            {
                "name": [{"service": service} for service in services],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
        config["retryThrottling"] = {"maxTokens": 100, "tokenRatio": 0.1}
    return [
        ("grpc.service_config", json.dumps(config)),
        ("grpc.max_receive_message_length", max_answer_bytes),
        # A process that stopped without closing its connections is noticed after this long.
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 2_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # A process that comes back is found within .6 s, rather than up to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
        # What its name does not say: how long making a connection may take, with TLS.
        ("grpc.min_reconnect_backoff_ms", 2_000),
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ]


def open_channel(
    target: str, options: ChannelOptions, credentials: grpc.ChannelCredentials | None
) -> grpc.Channel:
    """A channel for sync calls: plain without credentials, else TLS."""
    if credentials is None:
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, credentials, options)


def open_async_channel(
    target: str, options: ChannelOptions, credentials: grpc.ChannelCredentials | None
) -> grpc.aio.Channel:
    """A channel for calls that are awaited: plain without credentials, else TLS."""
    if credentials is None:
        return grpc.aio.insecure_channel(target, options)
    return grpc.aio.secure_channel(target, credentials, options)


Secret = str | Callable[[], str]
"""A key or a token; or what is asked for it at each call, where it changes."""


def with_key(channel: C, key: Secret | None) -> C:
    """A channel for stubs whose calls show a key or a token.

    It is sent in the clear where the connection has no TLS: gRPC's own call credentials would be
    left out there, also on a private network.
    """
    return channel if key is None else cast("C", _KeyedChannel(channel, key))


class _KeyedChannel:
    """What a stub needs of a channel."""

    def __init__(self, channel: Any, key: Secret) -> None:
        self._key = key if callable(key) else lambda: key
        self.unary_unary = self._keyed(channel.unary_unary)
        self.unary_stream = self._keyed(channel.unary_stream)
        self.stream_unary = self._keyed(channel.stream_unary)
        self.stream_stream = self._keyed(channel.stream_stream)

    def _keyed(self, make: Callable[..., Any]) -> Callable[..., Any]:
        def method(*arguments: Any, **options: Any) -> Any:
            send = make(*arguments, **options)

            def call(request: Any, *, metadata: Metadata | None = None, **options: Any) -> Any:
                shown = ("authorization", f"Bearer {self._key()}")
                return send(request, metadata=(*(metadata or ()), shown), **options)

            return call

        return method


def metadata(request_id: str | None) -> tuple[tuple[str, str], ...]:
    """What a call sends beside its request."""
    return (("x-request-id", request_id),) if request_id else ()

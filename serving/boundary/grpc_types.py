"""What grpc.aio hands to an interceptor and takes from it, by short names."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]]
Method = Callable[[Any, Context], Any]
"""Answers with an awaitable of a message, or with an asynchronous generator of several.

It is given a message, or an asynchronous iterator of those that its caller streams.
"""

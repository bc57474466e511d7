"""Structured logs, with a request id that crosses all three processes."""

import logging
import re
import sys
import uuid
from contextvars import ContextVar
from typing import Final, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

REQUEST_ID_HEADER: Final = "x-request-id"
"""The metadata key that a caller may set, and that every hop passes on and answers with."""

request_id: ContextVar[str] = ContextVar("request_id", default="")

_ACCEPTABLE: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def is_acceptable(sent: object) -> bool:
    """Whether a request id is one that is safe to log and to send back."""
    return isinstance(sent, str) and _ACCEPTABLE.fullmatch(sent) is not None


def accept_request_id(sent: str | None) -> str:
    """Keeps the caller's request id when it is safe to log, and makes one otherwise."""
    return sent if sent and is_acceptable(sent) else uuid.uuid4().hex


def configure_logging(process: str, level: str, *, as_json: bool, stream: TextIO) -> None:
    """Sets up logging, once, before the server starts.

    Reconfiguring while gRPC serves can deadlock (grpc#43421), so this is not done again.

    Args:
        process: the name that every line carries.
        level: `debug`, `info`, `warning` or `error`.
        as_json: one JSON object a line, for machines; otherwise colored text, for people.
        stream: where lines go.
    """
    render: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if as_json
        else [
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(),
                # The default prints local variables too: requests, and all that users sent.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    )
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_context(process),
    ]
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )
    # Libraries that log through the standard library end up in the same stream and format.
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    sys.excepthook = _log_uncaught


def _add_context(process: str) -> structlog.typing.Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["process"] = process
        if current := request_id.get():
            event["request_id"] = current
        return event

    return add


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: object) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger().error("uncaught", exc_info=(kind, error, trace))

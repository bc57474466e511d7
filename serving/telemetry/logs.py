"""Structured logs."""

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from serving.telemetry.request_id import request_id
from serving.telemetry.tracing import trace_id


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
        if trace := trace_id():
            event["trace_id"] = trace
        return event

    return add


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: object) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger().error("uncaught", exc_info=(kind, error, trace))

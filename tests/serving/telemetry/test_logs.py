"""Log lines are JSON objects that carry the process and the request id."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from serving.telemetry.logs import configure_logging
from serving.telemetry.request_id import accept_request_id, request_id


@pytest.fixture
def restored_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Logging is the process's own: put it back for the other tests."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("restored_logging")
class TestConfigured:
    def lines(self, stream: io.StringIO) -> list[dict[str, object]]:
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    def test_a_line_is_one_json_object(self) -> None:
        stream = io.StringIO()
        configure_logging("gateway", "info", as_json=True, stream=stream)
        token = request_id.set("r1")
        structlog.get_logger().info("call", code="OK", text="two\nlines")
        request_id.reset(token)
        structlog.get_logger().debug("not this one")
        (line,) = self.lines(stream)
        assert line.pop("timestamp")
        assert line == {
            "event": "call",
            "level": "info",
            "process": "gateway",
            "request_id": "r1",
            "code": "OK",
            "text": "two\nlines",
        }

    def test_a_line_outside_of_a_request_has_no_request_id(self) -> None:
        stream = io.StringIO()
        configure_logging("gateway", "info", as_json=True, stream=stream)
        structlog.get_logger().info("listening")
        assert "request_id" not in self.lines(stream)[0]

    def test_a_trace_stays_on_its_line(self) -> None:
        stream = io.StringIO()
        configure_logging("gateway", "info", as_json=True, stream=stream)
        structlog.get_logger().error("defect", exc_info=ZeroDivisionError("boom"))
        (line,) = self.lines(stream)
        assert "ZeroDivisionError: boom" in str(line["exception"])

    def test_libraries_log_in_the_same_format(self) -> None:
        stream = io.StringIO()
        configure_logging("gateway", "info", as_json=True, stream=stream)
        logging.getLogger("some.library").warning("careful with %s", "that")
        logging.getLogger("some.library").error("failed", exc_info=ZeroDivisionError("boom"))
        warned, failed = self.lines(stream)
        assert (warned["event"], warned["level"]) == ("careful with that", "warning")
        assert warned["process"] == "gateway"
        assert "boom" in str(failed["exception"])

    def test_text_for_people(self) -> None:
        stream = io.StringIO()
        configure_logging("gateway", "info", as_json=False, stream=stream)
        structlog.get_logger().info("listening", port=50050)
        assert "listening" in stream.getvalue()
        assert "port=50050" in stream.getvalue()


@pytest.mark.parametrize("sent", ["a", "A-1:b_c.9", "x" * 64])
def test_a_safe_request_id_is_kept(sent: str) -> None:
    assert accept_request_id(sent) == sent


@pytest.mark.parametrize("sent", [None, "", "x" * 65, "a b", "a\nb", '"}', "é"])
def test_any_other_is_replaced(sent: str | None) -> None:
    made = accept_request_id(sent)
    assert made != sent
    assert accept_request_id(made) == made

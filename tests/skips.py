"""A plugin for pytest: no test may be skipped, but for hardware that this machine has not.

    PYTEST_ADDOPTS="-p tests.skips" make test-all

What is skipped for hardware is named at the end; whatever else is skipped fails the run.
"""

from collections import Counter
from typing import Any, Final

import pytest

HARDWARE: Final = "absent hardware: "
"""What the reason of such a skip begins with."""


def _skips(config: pytest.Config) -> Counter[str]:
    """How many tests were skipped, by reason; none in a worker, whose tests are told elsewhere."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    return Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails a run that skipped what it could have tested."""
    if session.exitstatus == pytest.ExitCode.OK and any(
        not reason.startswith(HARDWARE) for reason in _skips(session.config)
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Names what was not tested."""
    for reason, tests in _skips(config).items():
        verdict = "NOT TESTED" if reason.startswith(HARDWARE) else "MAY NOT BE SKIPPED"
        terminalreporter.write_line(f"{verdict} ({tests}): {reason}")

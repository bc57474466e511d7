"""Runs `tandem` in this process, as the console script would."""

import contextlib
import io
import sys
from dataclasses import dataclass

import pytest

from cli.main import main


@dataclass(frozen=True)
class Result:
    code: int
    stdout: str
    stderr: str


def run(*arguments: str) -> Result:
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["tandem", *arguments])
        patch.setattr(sys, "excepthook", sys.excepthook)
        patch.setenv("COLUMNS", "160")
        patch.delenv("TANDEM_DEBUG", raising=False)
        code = _exit_code()
    return Result(code, out.getvalue(), err.getvalue())


def _exit_code() -> int:
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    raise AssertionError("the command line ends by exiting")

"""The command line as a whole: help, one-line errors, and what it does not import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import run
from tests.processes import REPOSITORY
from tests.tiny_bundle import write_tiny_bundle


def test_help_lists_every_command_and_the_way() -> None:
    result = run("--help")
    assert result.code == 0
    for command in ("data", "build", "evaluate", "bundle", "demo", "serve", "recommend"):
        assert command in result.stdout
    assert "tandem serve all --bundle" in result.stdout


@pytest.mark.parametrize("command", ["recommend", "similar", "serve", "bundle"])
def test_every_command_has_help(command: str) -> None:
    result = run(command, "--help")
    assert result.code == 0
    assert f"tandem {command}" in result.stdout


@pytest.mark.parametrize(
    ("command", "default"),
    [
        (("items", "upsert"), "[default: text]"),
        (("build",), "[default: collaborative]"),
        (("serve", "gateway"), "[default: 50050]"),
    ],
)
def test_help_shows_defaults_that_the_command_sets(command: tuple[str, ...], default: str) -> None:
    shown = " ".join(run(*command, "--help").stdout.replace("│", " ").split())
    assert default in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("recommend",),
        ("recommend", "--user", "1", "--strategy", "magic"),
        ("recommend", "--user", "1", "--filter", "genre"),
        ("recommend", "--user", "1", "--timeout", "0"),
        ("recommend", "--user", "1", "--pin", "50"),
        ("recommend", "--user", "1", "--cap", "genre=two"),
        ("recommend", "--user", "1", "--diversity", "2"),
        ("similar",),
        ("similar", "--item", "1", "--text", "x"),
        ("serve", "gateway", "--port", "http"),
    ],
)
def test_wrong_usage_is_2_and_says_how(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert "Usage: tandem" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("recommend", "--user", "1", "--address", "127.0.0.1:1"),
            "no gateway answers at 127.0.0.1:1",
        ),
        (("serve", "gateway"), "--bundle (or TANDEM_BUNDLE) is required"),
        (
            ("serve", "all", "--bundle", "/nope"),
            "--bundle: /nope is not a bundle",
        ),
        (("bundle", "verify", "/nope"), "/nope is not a bundle"),
    ],
)
def test_an_error_is_one_line_and_1(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TANDEM_BUNDLE", raising=False)
    result = run(*arguments)
    assert result.code == 1
    assert message in result.stderr
    assert result.stderr.startswith("tandem: ")
    assert result.stderr.count("\n") == 1


def test_an_unexpected_error_is_named_and_debuggable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("oops")

    monkeypatch.setattr("cli.bundle.commands.versions", broken)
    result = run("bundle", "list", "--root", str(tmp_path))
    assert result.code == 1
    assert result.stderr == "tandem: unexpected KeyError: 'oops' (TANDEM_DEBUG=1 shows where)\n"


FORBIDDEN = {"torch", "transformers", "sklearn", "polars", "offline"}


def imports_of(directory: Path, *arguments: str) -> set[str]:
    """The top-level packages that a command line has imported when it ends."""
    script = (
        "import sys\n"
        "from cli.main import main\n"
        f"sys.argv = ['tandem', *{arguments!r}]\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        "    pass\n"
        "sys.stdout.write('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_asking_needs_nothing_heavy(tmp_path: Path) -> None:
    imported = imports_of(tmp_path, "recommend", "--user", "1", "--address", "127.0.0.1:1")
    assert "grpc" in imported
    assert not imported & (FORBIDDEN | {"faiss", "onnxruntime", "numpy", "services"})


@pytest.mark.parametrize(
    ("process", "needed", "forbidden"),
    [
        ("candidate", "faiss", {"gateway"}),
        ("generator", "onnxruntime", {"gateway", "faiss"}),
        ("gateway", "gateway", {"services", "faiss", "onnxruntime", "tokenizers"}),
    ],
)
def test_no_serving_process_imports_torch(
    tmp_path: Path, process: str, needed: str, forbidden: set[str]
) -> None:
    bundle = write_tiny_bundle(tmp_path)
    (bundle / "users.json").write_text("[]")  # so that it ends by itself, with all imported
    imported = imports_of(tmp_path, "serve", process, "--bundle", str(bundle), "--port", "0")
    assert needed in imported
    assert not imported & (FORBIDDEN | forbidden)

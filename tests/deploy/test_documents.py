"""The documents say what the code does."""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from fnmatch import filter as matching
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from typer.main import get_command

from bench.publish import BLOCK, KEPT, documents, filled
from cli.main import app
from cli.serve.all import KINDS, StackSettings
from console.settings import ConsoleSettings
from serving.security.keys_file import KeysFile, KeyTable, TokensTable
from serving.security.rights import RULES, Right
from serving.settings import (
    CallingSettings,
    ProcessSettings,
    ServerSettings,
    flag_of,
    flags_of,
    variable_of,
)
from tandem.v1 import recommendation_service_pb2 as pb
from tests.deploy.settings_tables import DOCUMENT, replace_tables

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = [
    *REPOSITORY.glob("*.md"),
    *(REPOSITORY / "docs").rglob("*.md"),
]
CURRENT = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *(file for file in (REPOSITORY / "docs").glob("*.md") if file.name != "log.md"),
]
"""What describes the code as it is; a log, a changelog and decisions name what was there then."""
VARIABLE = re.compile(r"\bTANDEM_[A-Z_]*[A-Z]\b")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

current = pytest.mark.parametrize("document", CURRENT, ids=lambda file: file.name)


def test_the_tables_of_settings_are_current() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert replace_tables(text) == text, "run python -m tests.deploy.settings_tables"


def test_every_reason_of_an_error_is_explained() -> None:
    operations = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `([A-Z][A-Z_]+)` \|", operations, re.MULTILINE))
    raised = set()
    for package in ("core", "serving", "services", "gateway"):
        for file in (REPOSITORY / package).rglob("*.py"):
            raised |= _reasons(ast.parse(file.read_text(encoding="utf-8")))
    assert explained == raised


def _reasons(tree: ast.Module) -> set[str]:
    """The texts that code gives as a reason, alone or as one of several."""
    given = [
        keyword.value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg in ("reason", "reason_full")
    ]
    parts = [part for value in given for part in ast.walk(value)]
    # A reason that is a code's name would be one that no table has.
    assert not any(isinstance(part, ast.Attribute) and part.attr == "name" for part in parts)
    texts = [part.value for part in parts if isinstance(part, ast.Constant)]
    return {text for text in texts if isinstance(text, str) and text}


def test_every_variable_of_the_environment_is_explained() -> None:
    explained = set(VARIABLE.findall(DOCUMENT.read_text(encoding="utf-8")))
    kinds: list[type[ProcessSettings]] = [*KINDS.values(), StackSettings, ConsoleSettings]
    read = {variable_of(name) for kind in kinds for name in flags_of(kind)}
    for package in ("serving", "services", "gateway", "console", "cli", "deploy"):
        for file in (REPOSITORY / package).rglob("*"):
            if file.suffix in (".py", ".yaml", ".Dockerfile"):
                read |= set(VARIABLE.findall(file.read_text(encoding="utf-8")))
    assert explained == read


def test_every_right_and_setting_of_security_is_explained() -> None:
    text = (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")
    table = text.partition("## Rights")[2].partition("## ")[0]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)) == set(Right)
    for path, rule in RULES.items():
        service, _, method = path.rpartition("/")
        name = service.rpartition(".")[2]
        own = path.startswith("/tandem.")  # the others' are named by what they show
        for right in rule.rights if own else ():
            row = next(line for line in table.splitlines() if line.startswith(f"| `{right}`"))
            assert f"`{method}`" in row or f"`{name}`" in row, path
    guarding = {*ServerSettings.model_fields, *CallingSettings.model_fields}
    names = {n for n in guarding if n.startswith(("tls_", "service_", "keys_"))}
    assert len(names) == 8
    assert {name for name in names if flag_of(name) not in text} == set()
    keys = {*KeyTable.model_fields, *TokensTable.model_fields, *KeysFile.model_fields}
    assert {key for key in keys if key not in text} == set()


def test_links_between_documents_lead_somewhere() -> None:
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            linked = (document.parent / path).resolve() if path else document
            assert linked.exists(), f"{document}: {target}"
            if anchor:
                assert anchor in _anchors(linked), f"{document}: {target}"


def test_tables_are_those_that_were_measured() -> None:
    shown = set()
    for document in documents(REPOSITORY):
        text = document.read_text(encoding="utf-8")
        shown |= set(BLOCK.findall(text))
        assert text.count("<!-- bench:") == len(BLOCK.findall(text)), document
        assert filled(text, REPOSITORY / KEPT) == text, f"{document}: run python -m bench.publish"
    kept = {file.stem for file in (REPOSITORY / KEPT).glob("*.json")}
    assert kept <= shown, "what nobody reads need not be kept"


def test_a_table_names_what_it_was_measured_with(tmp_path: Path) -> None:
    text = "Before.\n\n<!-- bench:index -->\nold\n<!-- /bench -->\n\nAfter.\n"
    assert "Not measured yet: `python -m bench.index`" in filled(text, tmp_path)
    where = {
        "command": "python -m bench.index", "precision": "fp32", "caches": "warm",
        "cores": 2, "cpu": "A CPU", "seconds": 9, "git_revision": "abc",
    }  # fmt: skip
    report = {"recall": 1.0, "table": [["", "hnsw"], ["recall", "1.0"]], "environment": where}
    (tmp_path / "index.json").write_text(json.dumps(report), encoding="utf-8")
    written = filled(text, tmp_path)
    assert "| recall | 1.0 |" in written
    assert "fp32, warm; 2 cores of A CPU, 9 s, revision abc" in written
    assert written.startswith("Before.")
    assert written.endswith("After.\n")
    assert filled(written, tmp_path) == written


@current
def test_make_targets_are_in_the_makefile(document: Path) -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)
    for code in _code(document):
        for named in re.findall(r"(?:^|[$\s])make ([a-z][a-z*-]*(?: [a-z][a-z-]*)*)", code):
            for target in named.split():
                assert matching(targets, target), code


@current
def test_subcommands_and_their_flags_exist(document: Path) -> None:
    for code in _code(document):
        for line in re.findall(r"(?:^|[$|] |candidate )(?:\.venv/bin/)?tandem ([a-z].*)", code):
            words = shlex.split(re.split(r" [&|<]|$", line)[0], comments=True)
            command = _command(words)
            known = {flag for each in command.params for flag in (*each.opts, *each.secondary_opts)}
            assert {
                word for word in words if word.startswith("-") and word not in ("-", "--help")
            } <= known, line


@current
def test_modules_to_run_exist(document: Path) -> None:
    for code in _code(document):
        for module in re.findall(r"python -m ([\w.]+)", code):
            path = REPOSITORY / module.replace(".", "/")
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


@current
def test_files_of_the_repository_are_there(document: Path) -> None:
    for code in _code(document):
        if re.fullmatch(r"[\w*-]+/([\w.*/-]+\.(py|proto|yaml)|([\w*-]+/)*)", code) and not (
            code.startswith(("build/", "bundles/"))
        ):
            assert list(REPOSITORY.glob(code)), code


@current
def test_examples_parse(document: Path) -> None:
    for language, block in FENCED.findall(document.read_text(encoding="utf-8")):
        if language == "python":
            ast.parse(block)
        for message in re.findall(
            r"-d '(.+)' \S+ tandem.v1.RecommendationService/Recommend", block
        ):
            Parse(message, pb.RecommendRequest())


def test_decisions_are_numbered_without_gaps_and_all_have_the_same_parts() -> None:
    files = sorted((REPOSITORY / "docs" / "adr").glob("*.md"))
    decisions = [file for file in files if file.name != "README.md"]
    assert [int(file.name[:4]) for file in decisions] == list(range(1, len(decisions) + 1))
    index = (REPOSITORY / "docs" / "adr" / "README.md").read_text(encoding="utf-8")
    for file in decisions:
        text = file.read_text(encoding="utf-8")
        title = text.splitlines()[0].removeprefix("# ")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
            "Context",
            "Decision",
            "Consequences",
        ], file.name
        assert f"[{title}]({file.name})" in index


def _code(document: Path) -> Iterator[str]:
    """Lines of code blocks, continued ones as one, and code within sentences."""
    text = document.read_text(encoding="utf-8")
    for _, block in FENCED.findall(text):
        yield from block.replace("\\\n", " ").splitlines()
    for span in re.findall(r"`([^`]+)`", FENCED.sub("", text)):
        yield " ".join(span.split())


def _command(words: list[str]) -> Any:
    """The subcommand that words begin with."""
    command: Any = get_command(app)
    for word in words:
        if not hasattr(command, "get_command"):
            break
        found = command.get_command(None, word)
        assert found is not None, f"tandem {shlex.join(words)}: no {word}"
        command = found
    return command


def _anchors(document: Path) -> set[str]:
    """The anchors that headings get from GitHub."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

"""Puts what was measured into the documents.

    python -m bench.publish           everything in build/bench that a document shows
    python -m bench.publish index     that one
    python -m bench.publish --check   changes nothing; exit code 1 if a document says otherwise

`build/bench/NAME.json` is kept as `docs/results/bench/NAME.json`, and its table goes between
`<!-- bench:NAME -->` and `<!-- /bench -->` wherever README.md and docs/ have these. Nobody writes
such a table by hand, so a figure is the same in all of them.
"""

import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from bench.results.files import write_text
from bench.results.pages import markdown_table

REPORTS: Final = Path("build/bench")
KEPT: Final = Path("docs/results/bench")
BLOCK: Final = re.compile(r"<!-- bench:([a-z_.]+) -->\n.*?<!-- /bench -->", re.DOTALL)


def documents(root: Path) -> list[Path]:
    """The files that may show tables."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def filled(text: str, kept: Path) -> str:
    """A document with each table as it was measured.

    Args:
        text: the document.
        kept: the folder of the measurements' JSON.

    Returns:
        The document; where nothing is kept yet, it says how to measure.
    """

    def block(found: re.Match[str]) -> str:
        name, file = found[1], kept / f"{found[1]}.json"
        measured = f"*Not measured yet: `python -m bench.{name}`.*"
        if file.is_file():
            measured = shown(json.loads(file.read_text(encoding="utf-8")))
        return f"<!-- bench:{name} -->\n{measured}\n<!-- /bench -->"

    return BLOCK.sub(block, text)


def shown(report: dict[str, Any]) -> str:
    """A measurement's table, and what it is a measurement of."""
    header, *rows = report["table"]
    where = report["environment"]
    precision = "" if where["precision"] == "none" else f"{where['precision']}, "
    return (
        f"{markdown_table(header, rows)}\n\n"
        f"*`{where['command']}`: {precision}{where['caches']}; {where['cores']} cores of "
        f"{where['cpu']}, {where['seconds']} s, revision {where['git_revision'][:12]}.*"
    )


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Measurements. [default: all]")] = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing.")] = False,
) -> None:
    """Write measured tables into the documents."""
    wanted = {name for file in documents(Path()) for name in BLOCK.findall(_read(file))}
    if not check:
        _keep(names or sorted(wanted))
    stale = [file for file in documents(Path()) if filled(_read(file), KEPT) != _read(file)]
    for file in stale:
        print(file if check else f"written: {file}")
        if not check:
            write_text(file, filled(_read(file), KEPT))
    sys.exit(bool(stale and check))


def _keep(names: Sequence[str]) -> None:
    KEPT.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (source := REPORTS / f"{name}.json").is_file():
            shutil.copyfile(source, KEPT / source.name)


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)

"""What the pages of docs/results have in common: tables, and how the figures were made."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from offline.blend.validation import signed
from offline.bootstrap import Difference
from offline.build.config import BuildConfig


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def share(value: float) -> str:
    """A share without its leading zero, as the field's tables have it."""
    return f"{value:.4f}".removeprefix("0")


def interval(found: Difference) -> str:
    """A difference with the ends of its interval."""
    return f"{signed(found.mean)} ({signed(found.low)} to {signed(found.high)})"


def provenance(config: BuildConfig) -> dict[str, Any]:
    """A build's configuration without the paths of one machine."""
    facts = config.model_dump(mode="json")
    facts["embedder"]["model"] = Path(facts["embedder"]["model"]).name
    if facts["generator"]["checkpoint"]:
        facts["generator"]["checkpoint"] = Path(facts["generator"]["checkpoint"]).name
    if facts["generator"]["prompts"]:
        facts["generator"]["prompts"] = Path(facts["generator"]["prompts"]).name
    return facts


def how_it_was_made(facts: Mapping[str, Any]) -> str:
    """Hardware, revision, configuration and durations, for a page.

    Args:
        facts: `config`, `environment` and `seconds` by piece of work.
    """
    where = "\n".join(f"- {name}: {value}" for name, value in facts["environment"].items())
    seconds = facts["seconds"]
    spent = markdown_table(
        ("piece of work", "seconds"), [(name, f"{value:,.0f}") for name, value in seconds.items()]
    )
    return "\n\n".join(
        [
            "## How it was made",
            where,
            "Seconds over all sittings; what another build had made before took none.",
            spent,
            f"```json\n{json.dumps(facts['config'], indent=1)}\n```",
        ]
    )


def command_line(module: str) -> str:
    """The command that runs, without the folders of one machine."""
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    return " ".join(["python -m", module, *words])

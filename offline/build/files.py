"""JSON files that one stage writes and another reads."""

import json
from pathlib import Path
from typing import Any, Final

RECORD: Final = "stage.json"
"""What a stage was made from, in its directory."""
FACTS: Final = "facts.json"
"""What later stages have to know of a stage beside its other files."""


def write_json(path: Path, value: object) -> None:
    """Writes JSON for people and for the next stage."""
    path.write_text(json.dumps(value, indent=2, default=str) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Reads what `write_json` wrote."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value

"""The tables of docs/configuration.md, written from the settings classes and the command line.

python -m tests.deploy.settings_tables      writes them anew
"""

from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from cli.serve import app
from gateway.settings import GatewaySettings
from services.candidate.settings import CandidateSettings
from services.generator.settings import GeneratorSettings
from serving.settings import ENVIRONMENT_PREFIX, ServerSettings

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "configuration.md"
PROCESSES: Final[dict[str, type[ServerSettings]]] = {
    "candidate": CandidateSettings,
    "generator": GeneratorSettings,
    "gateway": GatewaySettings,
}
_HEAD: Final = "| flag | environment | default | |\n| --- | --- | --- | --- |\n"


def tables() -> dict[str, str]:
    """A table for what all three share, and one for what each has beside it, by name."""
    common = {
        name: field
        for name, field in ServerSettings.model_fields.items()
        if all(repr(kind.model_fields[name]) == repr(field) for kind in PROCESSES.values())
    }
    made = {"common": _table(common, _flags("candidate") & _flags("generator"))}
    for process, kind in PROCESSES.items():
        own = {name: field for name, field in kind.model_fields.items() if name not in common}
        made[process] = _table(own, _flags(process))
    return made


def replace_tables(document: str) -> str:
    """A document with the tables between its markers, `<!-- settings: NAME -->`, made anew."""
    for name, table in tables().items():
        begin, end = f"<!-- settings: {name} -->\n", "<!-- end -->"
        before, found, rest = document.partition(begin)
        if not found:
            raise ValueError(f"the document has no place for the settings of {name}")
        document = before + begin + table + rest[rest.index(end) :]
    return document


def _table(fields: dict[str, FieldInfo], flags: set[str]) -> str:
    return _HEAD + "".join(_row(name, field, flags) for name, field in fields.items())


def _row(name: str, field: FieldInfo, flags: set[str]) -> str:
    flag = f"`--{name.replace('_', '-')}`" if name in flags else ""
    variable = f"`{ENVIRONMENT_PREFIX}{name.upper()}`"
    words = [str(field.description), _choices(field.annotation)]
    return f"| {flag} | {variable} | {_default(field)} | {' '.join(filter(None, words))} |\n"


def _choices(annotation: Any) -> str:
    if type(None) in get_args(annotation):
        (annotation,) = (kind for kind in get_args(annotation) if kind is not type(None))
    if get_origin(annotation) is Literal:
        values = get_args(annotation)
    elif isinstance(annotation, type) and issubclass(annotation, StrEnum):
        values = tuple(annotation)
    else:
        return ""
    return f"One of {', '.join(f'`{value}`' for value in values)}."


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    return "" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _flags(process: str) -> set[str]:
    """The settings that are options of `tandem serve PROCESS`."""
    group: Any = typer.main.get_command(app)
    return {parameter.name for parameter in group.commands[process].params}


if __name__ == "__main__":
    DOCUMENT.write_text(replace_tables(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")

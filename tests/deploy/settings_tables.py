"""The tables of docs/configuration.md, written from the settings classes.

python -m tests.deploy.settings_tables      writes them anew
"""

from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from cli.serve.all import KINDS, StackSettings
from console.settings import ConsoleSettings
from serving.settings import ServerSettings, default_of, flag_of, flags_of, variable_of

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "configuration.md"
_HEAD: Final = "| flag | environment | default | |\n| --- | --- | --- | --- |\n"


def tables() -> dict[str, str]:
    """A table for what all share, one for what each, or all together, have beside it; and the
    console's, which has little of what the servers share."""
    common = {
        name: field
        for name, field in flags_of(ServerSettings).items()
        if all(repr(kind.model_fields[name]) == repr(field) for kind in KINDS.values())
    }
    processes = {
        process: {name: field for name, field in flags_of(kind).items() if name not in common}
        for process, kind in KINDS.items()
    }
    known = common.keys() | {name for own in processes.values() for name in own}
    together = {n: field for n, field in flags_of(StackSettings).items() if n not in known}
    places = {"common": common, **processes, "all": together}
    places["console"] = flags_of(ConsoleSettings)
    return {place: _table(fields) for place, fields in places.items()}


def replace_tables(document: str) -> str:
    """A document with the tables between its markers, `<!-- settings: NAME -->`, made anew."""
    for name, table in tables().items():
        begin, end = f"<!-- settings: {name} -->\n", "<!-- end -->"
        before, found, rest = document.partition(begin)
        if not found:
            raise ValueError(f"the document has no place for the settings of {name}")
        document = before + begin + table + rest[rest.index(end) :]
    return document


def _table(fields: dict[str, FieldInfo]) -> str:
    return _HEAD + "".join(_row(name, field) for name, field in fields.items())


def _row(name: str, field: FieldInfo) -> str:
    words = [str(field.description), _choices(field.annotation)]
    cells = (f"`{flag_of(name)}`", f"`{variable_of(name)}`", _default(field))
    return f"| {' | '.join(cells)} | {' '.join(filter(None, words))} |\n"


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
    default = default_of(field)
    return f"`{default}`" if default else ""


if __name__ == "__main__":
    DOCUMENT.write_text(replace_tables(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")

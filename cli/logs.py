"""The options that describe a user's own logs, for every command that reads them."""

from typing import Annotated, Any

import typer

from offline.dataset import LogsConfig

UserColumn = Annotated[str, typer.Option(help="Whose interaction it is.")]
ItemColumn = Annotated[str, typer.Option(help="With which item.")]
TimestampColumn = Annotated[str, typer.Option(help="When: numbers of any unit, or ISO 8601 dates.")]
RatingColumn = Annotated[
    str | None, typer.Option(help="How good it was; read for --min-rating only.")
]
MinRating = Annotated[float | None, typer.Option(help="Leave out interactions rated lower.")]
ItemIdColumn = Annotated[str, typer.Option(help="The id in the item table.")]
TextColumn = Annotated[
    list[str] | None,
    typer.Option(help="What describes an item; repeat for more. The first is its title."),
]
AttributeColumn = Annotated[
    list[str] | None, typer.Option(help="What requests may filter by; repeat for more.")
]
Separator = Annotated[
    str | None,
    typer.Option(help=r"Between CSV cells, \t for a tab; told by the file by default."),
]
Encoding = Annotated[str, typer.Option(help="Of CSV files: utf-8, cp1252, shift_jis, utf-16 …")]
ValueSeparator = Annotated[str, typer.Option(help="Between the values of an attribute's cell.")]
MinCore = Annotated[
    int, typer.Option(help="The fewest interactions of a user and of an item.", min=0)
]

_FIELDS = frozenset(LogsConfig.__dataclass_fields__)


def logs_config(options: dict[str, Any]) -> LogsConfig:
    """The logs that a command's options describe; options of other kinds are passed over."""
    settings = {name: value for name, value in options.items() if name in _FIELDS}
    return LogsConfig(
        **settings,
        text_columns=tuple(options["text_column"] or ["text"]),
        attribute_columns=tuple(options["attribute_column"] or ()),
    )

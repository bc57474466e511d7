"""Options that several commands have in common, said once: a frozen dataclass of them.

A command that is decorated with `expanded` takes such a dataclass as one parameter, and has its
fields as options.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

Command = TypeVar("Command", bound=Callable[..., None])


def expanded(command: Command) -> Command:
    """A command whose parameters that are dataclasses are replaced by their fields.

    Args:
        command: its annotations are not strings.
    """
    signature = inspect.signature(command)
    groups: dict[str, type[Any]] = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation)
    }

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{own.name: given.pop(own.name) for own in fields(group)})
        command(**given)

    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        parameters += _parameters(groups[name]) if name in groups else [_by_name(parameter)]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {own.name: own.annotation for own in parameters}
    return run  # type: ignore[return-value]


def _parameters(group: type[Any]) -> list[inspect.Parameter]:
    """A dataclass's fields, as its own `__init__` takes them."""
    own = inspect.signature(group).parameters.values()
    return [_by_name(parameter) for parameter in own]


def _by_name(parameter: inspect.Parameter) -> inspect.Parameter:
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)

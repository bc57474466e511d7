"""Files of TOML that say only what is expected of them."""

import tomllib
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)


def read_tables(content: bytes, kind: type[M]) -> M:
    """Reads a file.

    Args:
        content: of the file.
        kind: what its tables hold; keys that it does not have are refused if it refuses them.

    Raises:
        ValueError: it is not TOML, or says something impossible. The message says where, and never
            what stands there: it may be a secret.
    """
    try:
        return kind.model_validate(tomllib.loads(content.decode()))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        raise ValueError("; ".join(map(_explain, problems))) from None


def _explain(problem: Any) -> str:
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"

"""What a language model answers about an item, checked before it is believed."""

from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_WORDS: Final = 8


def _one_line(text: str) -> str:
    """Without line breaks: below the first line of an item's text is what was generated."""
    line = " ".join(text.split())
    if not any(letter.isalnum() for letter in line):
        raise ValueError("there is no word in it")
    return line


def _distinct(words: list[str]) -> list[str]:
    """Each once; small models repeat themselves."""
    return list({word.casefold(): word for word in reversed(words)}.values())[::-1]


Line = Annotated[str, AfterValidator(_one_line)]


class ItemAnswer(BaseModel):
    """What is said about an item."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    description: Line = Field(max_length=600)
    """A sentence or two on what it is."""
    genre_words: Annotated[
        list[Annotated[Line, Field(max_length=60)]],
        Field(min_length=1, max_length=_WORDS),
        AfterValidator(_distinct),
    ]
    """Words for its kind."""
    audience: Line = Field(max_length=150)
    """Who it is for."""

    @property
    def text(self) -> str:
        """As an embedder reads it, in one line."""
        sentence = self.description if self.description[-1] in ".!?" else f"{self.description}."
        return f"{sentence} {', '.join(self.genre_words)}. For {self.audience.rstrip('.')}."


def answer_schema(longest: int | None = None) -> dict[str, Any]:
    """The JSON schema of an answer, as strict servers want it.

    Args:
        longest: characters of the description, for servers that hold a model to lengths; words
            and audience have a quarter. None for those that know no lengths, as strict schemas
            of OpenAI do: the prompt asks for short ones.
    """
    brief = None if longest is None else longest // 4
    properties = {
        "description": _text_schema(longest),
        "genre_words": {
            "type": "array",
            "items": _text_schema(brief),
            "minItems": 1,
            "maxItems": _WORDS if longest is None else _WORDS // 2,
        },
        "audience": _text_schema(brief),
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _text_schema(longest: int | None) -> dict[str, Any]:
    lengths = {} if longest is None else {"minLength": 1, "maxLength": longest}
    return {"type": "string", **lengths}

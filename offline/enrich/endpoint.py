"""The server that is asked: anything that speaks OpenAI's chat completions with JSON schemas."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Final, Self

import openai
from openai import AsyncOpenAI
from pydantic import ValidationError

from offline.enrich.answer import ItemAnswer, answer_schema
from offline.enrich.cache import Stored
from offline.enrich.prompts import Message, ask, ask_again

_FATAL: Final = (
    openai.AuthenticationError,
    openai.PermissionDeniedError,
    openai.NotFoundError,
)
"""Errors that every other question would meet, too."""


class EndpointError(RuntimeError):
    """The server cannot be asked at all; the message never holds the key."""


class Unanswered(RuntimeError):
    """The server did not answer one question, after all retries."""


@dataclass(frozen=True)
class EndpointConfig:
    """How the server is asked.

    Attributes:
        model: By the name that the server knows it by.
        base_url: Such as `http://localhost:8000/v1`; by default what the `openai` client takes.
        key: Goes into the header of each call, and nowhere else.
        timeout_s: Of one call.
        retries: After 408, 409, 429, 5xx and broken connections, with growing pauses.
        max_tokens: Of one answer.
        longest: See `answer_schema`.
        sampling: Other parameters of the call, such as `temperature`.
    """

    model: str
    base_url: str | None = None
    key: str = field(default="none", repr=False)
    timeout_s: float = 60.0
    retries: int = 4
    max_tokens: int = 400
    longest: int | None = None
    sampling: tuple[tuple[str, float], ...] = ()


class Endpoint:
    """The server, over one pool of connections."""

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self._client = AsyncOpenAI(
            api_key=config.key,
            base_url=config.base_url,
            timeout=config.timeout_s,
            max_retries=config.retries,
        )
        self._schema = answer_schema(config.longest)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    def digest(self, text: str) -> str:
        """Names a question by all that decides its answer: the prompt, the model, how it is asked.

        The server's address is not among it: the same model may move.
        """
        config = self.config
        asked = [config.model, ask(text), self._schema, config.max_tokens, config.sampling]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    async def describe(self, text: str) -> Stored:
        """What the model says about an item; asked once more where the answer is not valid.

        Raises:
            Unanswered: there is none, after all retries.
            EndpointError: there will be none for any item.
        """
        messages = ask(text)
        first = await self._complete(messages)
        try:
            return Stored(ItemAnswer.model_validate_json(first.text), *first.tokens)
        except ValidationError as error:
            messages = ask_again(messages, first.text, _problem(error))
        second = await self._complete(messages)
        tokens = [one + other for one, other in zip(first.tokens, second.tokens, strict=True)]
        try:
            return Stored(ItemAnswer.model_validate_json(second.text), *tokens)
        except ValidationError:
            return Stored(None, *tokens)

    async def _complete(self, messages: list[Message]) -> "_Completion":
        schema = {"name": "item", "schema": self._schema, "strict": True}
        asked: dict[str, Any] = {
            "model": self.config.model,
            "messages": messages,
            "max_completion_tokens": self.config.max_tokens,
            "response_format": {"type": "json_schema", "json_schema": schema},
            **dict(self.config.sampling),
        }
        try:
            answer = await self._client.chat.completions.create(**asked)
        except _FATAL as error:
            raise EndpointError(self._told(error)) from None
        except openai.OpenAIError as error:
            raise Unanswered(self._told(error)) from None
        text = (answer.choices[0].message.content or "") if answer.choices else ""
        if answer.usage is None:
            return _Completion(text, (0, 0))
        return _Completion(text, (answer.usage.prompt_tokens, answer.usage.completion_tokens))

    def _told(self, error: openai.OpenAIError) -> str:
        """What went wrong, without the key, which some servers repeat."""
        message = f"{type(error).__name__}: {error}".replace(self.config.key, "***")
        return message[:500]


@dataclass(frozen=True)
class _Completion:
    text: str
    tokens: tuple[int, int]
    """Of the prompt, and of the answer."""


def _problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]

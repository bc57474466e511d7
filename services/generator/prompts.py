"""Prompts as data, rendered the same way for training, evaluation and serving.

A prompt file has one template a line, in OpenP5's format (https://arxiv.org/abs/2306.11134):

    task; seen|unseen; input; output

The tasks are P5's families (https://arxiv.org/abs/2203.13366). `seen` templates are trained on;
`unseen` ones are kept for evaluation, to show that the model reads the prompt rather than
recognizes it. The input is plain text with placeholders; the output is one of them alone. Blank
lines and lines that start with `#` are skipped.

    input   {dataset}  {user}  {history}  {item}  {feature}  {text}
    output  {target} an item, {rating} a number, {answer} yes or no, {text} words
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from core.errors import BundleError

Kind = Literal["seen", "unseen"]

INPUT_PLACEHOLDERS: Final = frozenset({"dataset", "user", "history", "item", "feature", "text"})
SEQUENTIAL: Final = "sequential"
"""The task of going on from a history."""
DIRECT: Final = "direct"
"""The task of recommending to a user by name, OpenP5's straightforward recommendation."""
RATING: Final = "rating"
"""The task of saying how a user rates an item."""
EXPLANATION: Final = "explanation"
"""The task of writing why a user likes an item."""
REVIEW: Final = "review"
"""The task of making something of a review: its summary, or its rating."""
TARGET: Final = "{target}"
TEXT: Final = "{text}"
"""The output of what is answered in words; in an input, the text that it is about."""
UNKNOWN_USER: Final = "user_unknown"
HISTORY_SEPARATOR: Final = " "

_OUTPUTS: Final[dict[str, tuple[str, ...]]] = {
    SEQUENTIAL: (TARGET,),
    DIRECT: (TARGET, "{answer}"),
    RATING: ("{rating}",),
    EXPLANATION: ("{text}",),
    REVIEW: ("{text}", "{rating}"),
}
"""What each task may be answered with, its usual answer first."""
_KINDS: Final[dict[str, Kind]] = {"seen": "seen", "unseen": "unseen"}
_PLACEHOLDER: Final = re.compile(r"\{(\w*)\}")


@dataclass(frozen=True)
class Template:
    """One line of a prompt file."""

    task: str
    kind: Kind
    input: str
    output: str


class PromptError(BundleError):
    """A prompt file that cannot be used."""


def read_templates(path: Path) -> tuple[Template, ...]:
    """Reads a prompt file.

    Raises:
        PromptError: naming the file, the line, and what to change.
    """
    templates = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            templates.append(_parse(line))
        except ValueError as error:
            raise PromptError(f"{path}, line {number}: {error}") from error
    if not templates:
        raise PromptError(f"{path} has no template")
    return tuple(templates)


def select(
    templates: Iterable[Template], task: str, kind: Kind, output: str | None = None
) -> tuple[Template, ...]:
    """The templates of a task, in file order.

    Args:
        templates: to choose from.
        task: a family of P5.
        kind: those that are trained on, or the others.
        output: what they are answered with; by default the task's usual answer.

    Raises:
        PromptError: there is none.
    """
    wanted = output or _OUTPUTS[task][0]
    found = tuple(t for t in templates if (t.task, t.kind, t.output) == (task, kind, wanted))
    if not found:
        raise PromptError(f"no {kind} template for the task {task!r} with the output {wanted}")
    return found


def has_task(templates: Iterable[Template], task: str) -> bool:
    """Whether there is a template of a task to train on."""
    return any(t.task == task and t.kind == "seen" for t in templates)


def user_text(user: int | None, tokens: int = 0) -> str:
    """How a prompt names a user.

    Args:
        user: the position in the bundle's `users.json`, or None for an unknown user.
        tokens: how many tokens of its own the vocabulary has for users; users beyond share them.
            Without any, the position is written as text, in the pieces of the tokenizer.
    """
    if user is None:
        return UNKNOWN_USER
    return f"<user_{user % tokens}>" if tokens else f"user_{user}"


def rating_text(value: int) -> str:
    """How a model from scratch writes a rating: by the place of its value, from the lowest."""
    return f"<rating_{value}>"


def check_item_prompts(templates: Iterable[Template]) -> None:
    """Checks the prompts of a model that reads whole items.

    Every prefix of its history is a prompt, so the history stands last; users are named only where
    there is no history, since a name is learned by heart where the history says more. Where an item
    is to be rated, the history is of rated items, and the item stands behind it.

    Raises:
        PromptError: naming the template.
    """
    for template in templates:
        names = _PLACEHOLDER.findall(template.input)
        if template.task == SEQUENTIAL:
            before, history, after = template.input.partition("{history}")
            if not (history and before.strip()) or after or "user" in names:
                raise PromptError(
                    f"the prompt {template.input!r}: a model that reads whole items needs some "
                    "words and then {history} at the end, and no {user}"
                )
        elif template.task == DIRECT and "history" in names:
            raise PromptError(f"the prompt {template.input!r} is for users without a {{history}}")
        elif template.task == RATING:
            before, end, after = template.input.partition("{history} {item}")
            if not (end and before.strip()) or after or "user" in names:
                raise PromptError(
                    f"the prompt {template.input!r}: a model that reads whole items needs some "
                    "words and then {history} {item} at the end, and no {user}"
                )


def render(
    template: Template,
    *,
    dataset: str,
    user: str,
    history: Sequence[str] = (),
    item: str = "",
    feature: str = "",
    text: str = "",
) -> str:
    """Fills in a template's input.

    Args:
        template: the template.
        dataset: the name of the data, as in training.
        user: how the user is named, see `user_text`.
        history: the codes of the items as text, oldest first.
        item: what is asked about, its code as text.
        feature: a word of what is to be written.
        text: a review.
    """
    values = {
        "dataset": dataset,
        "user": user,
        "history": HISTORY_SEPARATOR.join(history),
        "item": item,
        "feature": feature,
        "text": text,
    }
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template.input)


def render_ids(
    template: Template,
    encode: Callable[[str], list[int]],
    *,
    dataset: str,
    user: str,
    history: Sequence[str] = (),
    max_tokens: int,
    **values: str,
) -> list[int]:
    """Renders a template to token ids, dropping the oldest items until they fit.

    Args:
        template: the template.
        encode: text to token ids, end-of-sequence included.
        dataset: the name of the data, as in training.
        user: how the user is named, see `user_text`.
        history: the codes of the items as text, oldest first.
        max_tokens: the most tokens that the model reads.
        **values: the item, the feature and the text, as `render` takes them.

    Raises:
        PromptError: the template alone is too long.
    """
    kept = list(history)
    while True:
        ids = encode(render(template, dataset=dataset, user=user, history=kept, **values))
        if len(ids) <= max_tokens:
            return ids
        if not kept or "{history}" not in template.input:
            raise PromptError(f"a prompt takes {len(ids)} tokens, the model reads {max_tokens}")
        share = (len(ids) - max_tokens) / len(ids)
        kept = kept[max(1, int(share * len(kept))) :]


def _parse(line: str) -> Template:
    fields = [field.strip() for field in line.split(";")]
    if len(fields) != 4:
        raise ValueError(f"expected `task; seen|unseen; input; output`, found {len(fields)} fields")
    task, kind, text, output = fields
    used = _PLACEHOLDER.findall(text)
    if unknown := set(used) - INPUT_PLACEHOLDERS:
        known = ", ".join(sorted(INPUT_PLACEHOLDERS))
        raise ValueError(f"unknown placeholder {sorted(unknown)} in the input; known: {known}")
    if len(used) != len(set(used)):
        raise ValueError("a placeholder stands twice in the input")
    if task not in _OUTPUTS:
        raise ValueError(f"the task is {task!r}; known: {', '.join(_OUTPUTS)}")
    if output not in _OUTPUTS[task]:
        known = " or ".join(_OUTPUTS[task])
        raise ValueError(f"the output is {output!r}; for the task {task} it is {known}")
    if kind not in _KINDS:
        raise ValueError(f"the second field is {kind!r}, not `seen` or `unseen`")
    return Template(task=task, kind=_KINDS[kind], input=text, output=output)

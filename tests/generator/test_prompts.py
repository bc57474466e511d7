"""Prompt files and their rendering."""

from pathlib import Path

import pytest

import offline.generator
from services.generator.prompts import (
    RATING,
    PromptError,
    Template,
    check_item_prompts,
    read_templates,
    render,
    render_ids,
    select,
    user_text,
)

NEXT = Template("sequential", "seen", "{user} of {dataset} chose {history} . next ?", "{target}")


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_openp5s_format(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.txt",
        "# comment\n\nsequential; seen; {history} next; {target}\n"
        "direct;unseen;for {user};{target}\n",
    )
    assert read_templates(path) == (
        Template("sequential", "seen", "{history} next", "{target}"),
        Template("direct", "unseen", "for {user}", "{target}"),
    )


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("sequential; seen; {history}", "found 3 fields"),
        ("sequential; often; {history}; {target}", "'often'"),
        ("sequential; seen; {histroy}; {target}", "histroy"),
        ("sequential; seen; {history} {history}; {target}", "twice"),
        ("sequential; seen; {history}; {item}", "the output"),
        ("sequential; seen; {history}; {rating}", "for the task sequential it is {target}"),
        ("rating; seen; {user} of {item}; {target}", "for the task rating it is {rating}"),
        ("ratings; seen; {user} of {item}; {rating}", "the task is 'ratings'"),
        ("sequential; seen; {history.__class__}; {target}", ""),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    path = write(tmp_path / "p.txt", f"direct; seen; for {{user}}; {{target}}\n{line}\n")
    if not complaint:  # not a placeholder: plain text, and never looked up
        assert read_templates(path)[1].input == "{history.__class__}"
        return
    with pytest.raises(PromptError, match=r"line 2: .*" + complaint):
        read_templates(path)


def test_a_task_without_template_is_named(tmp_path: Path) -> None:
    templates = read_templates(write(tmp_path / "p.txt", "direct; seen; {user}; {target}\n"))
    with pytest.raises(PromptError, match="no seen template for the task 'sequential'"):
        select(templates, "sequential", "seen")


def test_renders_known_and_unknown_users() -> None:
    known = render(NEXT, dataset="ml", user=user_text(7), history=["<a_1><b_2>", "<a_3><b_4>"])
    assert known == "user_7 of ml chose <a_1><b_2> <a_3><b_4> . next ?"
    unknown = render(NEXT, dataset="ml", user=user_text(None), history=[])
    assert unknown == "user_unknown of ml chose  . next ?"


def test_renders_what_is_asked_about() -> None:
    template = Template("explanation", "seen", "{feature} of {item} for {user}", "{text}")
    assert render(template, dataset="ml", user="u", item="<a_1>", feature="sound") == (
        "sound of <a_1> for u"
    )


def test_a_task_may_have_more_than_one_kind_of_answer(tmp_path: Path) -> None:
    lines = "direct; seen; for {user}; {target}\ndirect; seen; {user} and {item}; {answer}\n"
    templates = read_templates(write(tmp_path / "p.txt", lines))
    assert [t.input for t in select(templates, "direct", "seen")] == ["for {user}"]
    found = select(templates, "direct", "seen", "{answer}")
    assert [t.input for t in found] == ["{user} and {item}"]


def test_text_of_a_history_is_not_a_template() -> None:
    assert "{user}" in render(NEXT, dataset="ml", user=user_text(1), history=["{user}"])


@pytest.mark.parametrize("limit", [10, 25, 60, 1000])
def test_the_oldest_items_are_dropped_until_the_prompt_fits(limit: int) -> None:
    history = [f"<a_{i}>" for i in range(50)]
    template = Template("sequential", "seen", "{history} ?", "{target}")
    ids = render_ids(
        template,
        lambda text: [int(w.strip("<a_>")) if w != "?" else -1 for w in text.split()],
        dataset="ml",
        user="",
        history=history,
        max_tokens=limit,
    )
    assert len(ids) <= limit
    assert ids[-1] == -1
    assert ids[:-1] == list(range(50))[50 - len(ids) + 1 :]
    assert len(ids) == min(limit, 51) or len(ids) >= limit - 3


def letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def test_a_template_that_never_fits_is_refused() -> None:
    with pytest.raises(PromptError, match=r"takes [0-9]+ tokens, the model reads 5"):
        render_ids(NEXT, letters, dataset="ml", user="somebody", history=[], max_tokens=5)


@pytest.mark.parametrize(("task", "seen"), [("sequential", 12), ("direct", 10), ("rating", 10)])
def test_tandems_own_prompts_have_an_unseen_one_a_task(task: str, seen: int) -> None:
    templates = read_templates(Path(offline.generator.__path__[0]) / "prompts.txt")
    assert len(select(templates, task, "seen")) == seen
    assert len(select(templates, task, "unseen")) == 1


def test_tandems_own_prompts_say_what_their_task_needs() -> None:
    templates = read_templates(Path(offline.generator.__path__[0]) / "prompts.txt")
    assert all(t.input.endswith("{history} {item}") for t in templates if t.task == RATING)
    assert all("{history}" in t.input for t in templates if t.task == "sequential")
    assert all("{user}" in t.input for t in templates if t.task == "direct")


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        (Template("sequential", "seen", "{history} , next", "{target}"), "at the end"),
        (Template("sequential", "unseen", "after {history} .", "{target}"), "at the end"),
        (Template("sequential", "seen", " {history}", "{target}"), "some words and then"),
        (Template("sequential", "seen", "what is next ?", "{target}"), "at the end"),
        (Template("sequential", "seen", "{user} after {history}", "{target}"), r"no \{user\}"),
        (Template("direct", "seen", "{user} chose {history}", "{target}"), "users without a"),
        (Template("rating", "seen", "{item} after {history}", "{rating}"), "at the end"),
        (Template("rating", "seen", "{history} {item}", "{rating}"), "some words and then"),
        (Template("rating", "seen", "{user} : {history} {item}", "{rating}"), r"no \{user\}"),
    ],
)
def test_prompts_that_whole_items_cannot_follow_are_refused(
    template: Template, complaint: str
) -> None:
    fine = Template("sequential", "seen", "in {dataset} after {history}", "{target}")
    check_item_prompts([fine, Template("direct", "seen", "for {user}", "{target}")])
    with pytest.raises(PromptError, match=complaint) as refused:
        check_item_prompts([fine, template])
    assert repr(template.input) in refused.value.message


def test_tandems_own_prompts_suit_a_model_that_reads_whole_items() -> None:
    check_item_prompts(read_templates(Path(offline.generator.__path__[0]) / "prompts.txt"))


@pytest.mark.parametrize(
    ("user", "tokens", "text"),
    [
        (None, 0, "user_unknown"),
        (None, 5, "user_unknown"),
        (7, 0, "user_7"),
        (7, 20, "<user_7>"),
        (7, 5, "<user_2>"),
        (5, 5, "<user_0>"),
        (0, 1, "<user_0>"),
    ],
)
def test_users_have_tokens_and_share_them_where_there_are_more(
    user: int | None, tokens: int, text: str
) -> None:
    assert user_text(user, tokens) == text

"""`tandem build`: what does not go together is said before anything is built."""

from pathlib import Path

import pytest

from tests.cli.command import run


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--lora",), 1, "name a model with --checkpoint"),
        (("--lora-rank", "4"), 2, "give --lora, too"),
        (("--checkpoint", "any", "--lora", "--lora-targets", "q,x"), 1, "generator.lora.targets.1"),
        (("--checkpoint", "any", "--lora", "--inputs", "items"), 1, "use --inputs tokens"),
        (("--checkpoint", "none.gguf"), 1, "there is no file none.gguf"),
    ],
)
def test_a_bad_combination_is_a_clear_error(
    tmp_path: Path, options: tuple[str, ...], code: int, said: str
) -> None:
    done = run("build", "ml-100k", "--work", str(tmp_path / "work"), *options)
    assert done.code == code
    assert said in done.stderr
    assert "unexpected" not in done.stderr
    assert not (tmp_path / "work").exists(), "nothing was built"

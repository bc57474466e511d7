"""What does not belong together is refused at load, with a message that says which."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.bundle import Bundle
from core.errors import BundleError
from services.generator.decoding.engine import GeneratorEngine
from tests.generator.made_up import level_texts, random_levels, write_made_up


def tokenizer_of_another(directory: Path, other: Path) -> None:
    (directory / "generator_tokenizer.json").write_bytes(
        (other / "generator_tokenizer.json").read_bytes()
    )


def graph_of_another(directory: Path, other: Path) -> None:
    (directory / "rerank.fp32.onnx").write_bytes((other / "rerank.fp32.onnx").read_bytes())


def codes_shuffled(directory: Path, _other: Path) -> None:
    codes = np.load(directory / "code_tokens.npy")
    np.save(directory / "code_tokens.npy", codes[::-1])


def codes_of_too_many(directory: Path, _other: Path) -> None:
    with (directory / "codes.txt").open("a") as file:
        file.write("<a_0><b_0>\n")


def codes_of_another_length(directory: Path, _other: Path) -> None:
    codes = np.load(directory / "code_tokens.npy")
    np.save(directory / "code_tokens.npy", codes[:, :1])


def codes_of_another_type(directory: Path, _other: Path) -> None:
    codes = np.load(directory / "code_tokens.npy")
    np.save(directory / "code_tokens.npy", codes.astype(np.int64))


def two_items_with_one_code(directory: Path, _other: Path) -> None:
    codes = np.load(directory / "code_tokens.npy")
    texts = (directory / "codes.txt").read_text().splitlines()
    codes[3], texts[3] = codes[4], texts[4]
    np.save(directory / "code_tokens.npy", codes)
    (directory / "codes.txt").write_text("\n".join(texts) + "\n")


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (tokenizer_of_another, "codes and tokenizer|graph, tokenizer and manifest"),
        (graph_of_another, "rerank.fp32.onnx (was exported for|cannot be loaded)"),
        (codes_shuffled, "codes.txt, written with generator_tokenizer.json"),
        (codes_of_too_many, "codes.txt has 51 lines for 50 items"),
        (codes_of_another_length, r"code_tokens.npy has the shape \(50, 1\)"),
        (codes_of_another_type, "code_tokens.npy holds int64"),
        (two_items_with_one_code, "items 3 and 4 have the same code"),
    ],
)
def test_parts_of_different_builds_are_refused(
    tmp_path: Path, damage: Callable[[Path, Path], None], complaint: str
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = write_made_up(tmp_path / "one", level_texts(random_levels(50, (8, 8))))
    two = write_made_up(tmp_path / "two", level_texts(random_levels(50, (9, 9), seed=1)))
    damage(one.bundle.path, two.bundle.path)
    with pytest.raises(BundleError, match=complaint):
        GeneratorEngine.load(Bundle.open(one.bundle.path, verify=False))

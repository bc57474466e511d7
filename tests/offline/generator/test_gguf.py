"""GGUF files: what is converted computes what it was made of, and what cannot be read says why."""

from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFWriter
from rich.console import Console

from offline.build.cache import StageCache
from offline.build.config import WarmStart, configure
from offline.build.generator.pretrained import NAMED, gguf_file
from offline.build.pipeline import Pipeline
from offline.build.stage import BuildRequest
from offline.build.stages.generator import GENERATOR
from offline.build.stages.pretrained import PRETRAINED
from offline.build.stages.warm import WARM
from offline.generator.tokens.backbones import from_checkpoint
from offline.generator.tokens.gguf_file import GgufError, convert
from offline.generator.tokens.llama import ASKED
from tests.generator.made_up import Backbone
from tests.offline.tiny_models import GGUF_PIECES, save_gguf


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
@torch.no_grad()
def test_a_converted_file_computes_what_it_holds(tmp_path: Path, kind: Backbone) -> None:
    original: Any = save_gguf(tmp_path / "tiny.gguf", kind=kind)
    convert(tmp_path / "tiny.gguf", tmp_path / "converted")
    model, tokenizer = from_checkpoint(tmp_path / "converted", dropout=0.0)
    ids = torch.arange(20)[None]
    assert torch.allclose(model(ids).logits, original(ids).logits, atol=1e-5)
    assert model.config.tie_word_embeddings == original.config.tie_word_embeddings
    assert tokenizer.get_vocab_size() == len(GGUF_PIECES) + 1, "its own, and a padding"
    tokens = tokenizer.encode("this is 12").tokens
    response = tokenizer.encode(ASKED, add_special_tokens=False).tokens
    assert tokens[-len(response) :] == response
    body = [token for token in tokens[: -len(response)] if token != "<s>"]  # noqa: S105
    assert body == ["t", "h", "is", "Ġ", "is", "Ġ", "1", "2"]


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    save_gguf(path)
    whole = path.read_bytes()
    cases = {
        "empty": b"",
        "no GGUF": b"PK" + whole[2:],
        "header": whole[:200],
        "short": whole[:-64],
    }
    for case, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(GgufError, match="is damaged, or no GGUF file"):
            convert(path, tmp_path / "converted")
        assert not (tmp_path / "converted").exists(), case


def test_a_number_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    save_gguf(path)
    content = bytearray(path.read_bytes())
    content[-64:-60] = b"\xff" * 4
    path.write_bytes(bytes(content))
    with pytest.raises(GgufError, match="no number"):
        convert(path, tmp_path / "converted")


def test_other_models_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    writer = GGUFWriter(path, "bert")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(GgufError, match="is a bert; of GGUF files, llama, qwen2, qwen3"):
        convert(path, tmp_path / "converted")


def request(checkpoint: str) -> BuildRequest:
    config = configure("demo", {"generator": {"checkpoint": checkpoint}})
    return BuildRequest(None, config, "shop")  # type: ignore[arg-type]


def test_a_file_is_converted_once_for_its_content(tmp_path: Path) -> None:
    save_gguf(tmp_path / "one.gguf")
    (tmp_path / "other.gguf").write_bytes((tmp_path / "one.gguf").read_bytes())
    save_gguf(tmp_path / "third.gguf", kind="qwen2")

    def built(name: str) -> Path:
        cache = StageCache(tmp_path / "work", Console(quiet=True))
        return Pipeline(request(str(tmp_path / name)), cache).stage("pretrained").path

    first = built("one.gguf")
    written = (first / "model.safetensors").stat().st_mtime_ns
    assert built("other.gguf") == first
    assert (first / "model.safetensors").stat().st_mtime_ns == written
    assert built("third.gguf") != first


def test_only_gguf_files_need_a_conversion(tmp_path: Path) -> None:
    save_gguf(tmp_path / "tiny.gguf")
    for checkpoint, converted in [
        (str(tmp_path / "tiny.gguf"), True),
        ("smollm2-135m-instruct", True),
        ("google-t5/t5-small", False),
    ]:
        asked = request(checkpoint)
        assert ("pretrained" in GENERATOR.needed(GENERATOR.settings(asked))) == converted
        start = WarmStart(bundle=tmp_path, version="1", files="")
        warm = WARM.settings(BuildRequest(asked.source, asked.config, "shop", start))
        assert ("pretrained" in WARM.needed(warm)) == converted


def test_a_missing_file_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.gguf"):
        PRETRAINED.settings(request(str(tmp_path / "none.gguf")))


def test_the_named_model_is_known_by_its_digest() -> None:
    named = gguf_file("smollm2-135m-instruct")
    assert named is not None
    assert named.facts() == {"sha256": NAMED["smollm2-135m-instruct"].weights_sha256}

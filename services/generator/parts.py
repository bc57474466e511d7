"""What a generator is made of, read from a bundle and checked to belong together."""

from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from runtime.bundle import Bundle, sha256
from runtime.errors import BundleError
from runtime.manifest import GeneratorSection
from services.generator.codes import code_tokens, read_code_texts
from services.generator.prompts import DIRECT, SEQUENTIAL, Template, read_templates, select
from services.generator.trie import Trie

_CHECKED_CODES = 1000
"""Codes that are written anew at load, to see that tokenizer and codes belong together."""


@dataclass(frozen=True)
class GeneratorParts:
    """Sessions, tokenizer, codes and prompts of one bundle."""

    section: GeneratorSection
    dataset: str
    tokenizer: Tokenizer
    template: Template
    """What is asked about a history."""
    direct: Template
    """What is asked when there is no history: names the user alone."""
    code_texts: list[str]
    codes: NDArray[np.int32]
    """[items, levels] token ids."""
    trie: Trie
    generate: ort.InferenceSession
    rerank: ort.InferenceSession


def load_parts(bundle: Bundle, *, threads: int, providers: list[str]) -> GeneratorParts:
    """Loads the generator of a bundle.

    Args:
        bundle: a verified bundle.
        threads: that one inference may use.
        providers: ONNX Runtime's execution providers, best first.

    Raises:
        BundleError: the tokenizer, the graphs and the codes do not belong together; the message
            says which.
    """
    section = bundle.manifest.generator
    tokenizer_file = bundle.file("generator_tokenizer.json")
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    code_texts = read_code_texts(bundle.file("codes.txt"))
    codes = np.asarray(bundle.array("code_tokens", np.int32))
    _check_codes(bundle, tokenizer, code_texts, codes)
    expected = {
        "code_length": str(section.code_length),
        "vocabulary": str(section.vocabulary),
        "max_input_tokens": str(section.max_input_tokens),
        "tokenizer_sha256": sha256(tokenizer_file),
    }
    templates = read_templates(bundle.file("prompts.txt"))
    bundle.file("generator.weights")  # the graphs open it by themselves: say so if it is missing
    return GeneratorParts(
        section=section,
        dataset=bundle.manifest.provenance.dataset,
        tokenizer=tokenizer,
        template=select(templates, SEQUENTIAL, "seen")[0],
        direct=select(templates, DIRECT, "seen")[0],
        code_texts=code_texts,
        codes=codes,
        trie=Trie.build(codes),
        generate=_session(bundle, "generate.onnx", expected, threads, providers),
        rerank=_session(bundle, "rerank.onnx", expected, threads, providers),
    )


def _session(
    bundle: Bundle, name: str, expected: dict[str, str], threads: int, providers: list[str]
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin while they wait starve the other processes of a small machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(str(bundle.file(name)), options, providers=providers)
    except Exception as error:
        raise BundleError(
            f"{name} cannot be loaded; it and generator.weights may come from different exports: "
            f"{error}"
        ) from error
    found = session.get_modelmeta().custom_metadata_map
    for key, value in expected.items():
        if found.get(key) != value:
            raise BundleError(
                f"{name} was exported for {key} {found.get(key)}, but the bundle has {value}: "
                "graph, tokenizer and manifest come from different exports"
            )
    return session


def _check_codes(
    bundle: Bundle,
    tokenizer: Tokenizer,
    texts: list[str],
    codes: NDArray[np.int32],
) -> None:
    section = bundle.manifest.generator
    shape = (bundle.manifest.items, section.code_length)
    if codes.shape != shape:
        raise BundleError(f"code_tokens.npy has the shape {codes.shape}, the manifest says {shape}")
    if len(texts) != len(codes):
        raise BundleError(f"codes.txt has {len(texts)} lines for {len(codes)} items")
    if codes.min() < 0 or codes.max() >= section.vocabulary:
        raise BundleError(f"code_tokens.npy has tokens outside of the {section.vocabulary} known")
    sample = np.unique(np.linspace(0, len(codes) - 1, _CHECKED_CODES).astype(int))
    pad, eos = section.pad_token, section.eos_token
    written = code_tokens(tokenizer, [texts[i] for i in sample], eos=eos, pad=pad, unknown=None)
    width = written.shape[1]
    same = width <= section.code_length and (codes[sample, :width] == written).all()
    if not same:
        raise BundleError(
            "codes.txt, written with generator_tokenizer.json, is not what code_tokens.npy holds: "
            "codes and tokenizer come from different builds"
        )

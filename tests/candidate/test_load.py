"""Loading the engine and the servicer from a bundle on disk."""

import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.bundle import Bundle
from core.errors import BundleError
from services.candidate.index.space import SpaceName
from services.candidate.retrieval.encoders import (
    OnnxQueryEncoder,
    OnnxTextEncoder,
    shared_text_encoder,
)
from services.candidate.retrieval.engine import CandidateEngine
from services.candidate.retrieval.shortlist import SourceWeights
from services.candidate.servicer import CandidateServicer
from serving.testing import serving
from tandem.v1 import candidate_service_pb2 as pb
from tandem.v1 import candidate_service_pb2_grpc as pb_grpc
from tandem.v1.common_pb2 import SimilarityQuery
from tests.candidate.made_up import make_world, positions
from tests.candidate.small_bundle import TEXT_TABLE, write_small_bundle

WORLD = make_world()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("bundles"), WORLD)


def test_loads_what_was_written(path: Path) -> None:
    engine = CandidateEngine.load(Bundle.open(path))
    np.testing.assert_array_equal(engine.vectors(SpaceName.CONTENT), WORLD.content)
    found = engine.similar_to_items(positions(1), 3, SpaceName.BEHAVIOR)
    expected = WORLD.engine.similar_to_items(positions(1), 3, SpaceName.BEHAVIOR)
    assert found.items.tolist() == expected.items.tolist()


def test_weights_may_differ_from_the_bundles(path: Path) -> None:
    engine = CandidateEngine.load(
        Bundle.open(path), weights=SourceWeights(behavior=1, transitions=0)
    )
    history = positions(2, 3)
    query = WORLD.behavior[history].mean(axis=0)
    best = np.argsort(-(WORLD.behavior @ query))[:4]
    found = engine.search(history, 4, include_seen=True)
    assert found.items.tolist() == best.tolist()


def test_the_prefix_goes_before_a_text(path: Path) -> None:
    encoder = OnnxTextEncoder(
        path / "text_encoder.onnx", path / "text_tokenizer.json", prefix="query : ", threads=1
    )
    expected = TEXT_TABLE[[3, 4, 2, 1]].mean(axis=0)  # "query : a Film"
    np.testing.assert_allclose(encoder.encode("a Film"), expected, rtol=1e-6)


def test_versions_with_equal_files_share_the_text_encoder(path: Path) -> None:
    manifest = Bundle.open(path).manifest
    # A prefix of its own, because engines of other tests may still share the plain encoder.
    section = manifest.candidate.model_copy(update={"text_prefix": "shared : "})
    own = Bundle(path, manifest.model_copy(update={"candidate": section}))
    first, second = (CandidateEngine.load(own) for _ in range(2))
    assert first._text_encoder is second._text_encoder
    gone = weakref.ref(first._text_encoder)
    del first
    assert gone() is second._text_encoder
    del second
    assert gone() is None


def test_other_files_or_prefixes_make_another_encoder(path: Path) -> None:
    bundle = Bundle.open(path)
    encoder = shared_text_encoder(bundle, threads=1)
    manifest = bundle.manifest
    section = manifest.candidate.model_copy(update={"text_prefix": "a "})
    other_prefix = Bundle(path, manifest.model_copy(update={"candidate": section}))
    entry = manifest.files["text_encoder.onnx"].model_copy(update={"sha256": "0" * 64})
    files = {**manifest.files, "text_encoder.onnx": entry}
    other_graph = Bundle(path, manifest.model_copy(update={"files": files}))
    for other in (other_prefix, other_graph):
        assert shared_text_encoder(other, threads=1) is not encoder
    assert shared_text_encoder(bundle, threads=2) is not encoder


def test_texts_of_different_lengths_are_encoded_at_once(path: Path) -> None:
    encoder = OnnxTextEncoder(
        path / "text_encoder.onnx", path / "text_tokenizer.json", prefix="", threads=1
    )
    texts = ["a Film", "Film", "a query a Film : Film", *["Film " * n for n in range(1, 40)]]
    expected = [encoder.encode(text) for text in texts]
    np.testing.assert_allclose(encoder.encode_batch(texts), expected, rtol=1e-6)


def test_histories_of_different_lengths_are_encoded_at_once(path: Path) -> None:
    encoder = OnnxQueryEncoder(path / "query_encoder.onnx", threads=1)
    histories = [WORLD.behavior[:3], WORLD.behavior[4:5], WORLD.behavior[5:12]]
    expected = [encoder.encode(history) for history in histories]
    np.testing.assert_allclose(encoder.encode_batch(histories), expected, rtol=1e-6)


async def test_serves_a_bundle(path: Path) -> None:
    servicer = CandidateServicer.load(Bundle.open(path), threads=2)
    await servicer.warm_up()
    async with serving(servicer, pb_grpc.add_CandidateServiceServicer_to_server) as channel:
        stub: pb_grpc.CandidateServiceAsyncStub = pb_grpc.CandidateServiceStub(channel)
        response = await stub.Search(pb.SearchRequest(history_item_ids=["i3"], max_results=3))
        assert len(response.items) == 3
        assert response.bundle_version == "tiny/1"
        similar = await stub.Similar(pb.SimilarRequest(query=SimilarityQuery(text="a Film")))
        assert len(similar.items) == 10
    await servicer.close()


def fewer_vectors(directory: Path) -> None:
    np.save(directory / "content_vectors.npy", WORLD.content[:-1])


def one_number(directory: Path) -> None:
    np.save(directory / "behavior_vectors.npy", WORLD.behavior.ravel())


def wider_numbers(directory: Path) -> None:
    np.save(directory / "content_vectors.npy", WORLD.content.astype(np.float64))


def fewer_rows(directory: Path) -> None:
    np.save(directory / "transitions_indptr.npy", WORLD.transitions.indptr[:-1])


@pytest.mark.parametrize("damage", [fewer_vectors, one_number, wider_numbers, fewer_rows])
def test_parts_that_do_not_belong_together_are_refused(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = write_small_bundle(tmp_path, WORLD)
    bundle = Bundle.open(path)
    damage(path)
    with pytest.raises(BundleError):
        CandidateEngine.load(bundle)

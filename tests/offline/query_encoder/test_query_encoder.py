"""The query encoder on made-up sequences: what it learns, repeats, resumes and exports."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from offline.dataset.schema import Dataset, Item
from offline.parity import ParityError
from offline.query_encoder.config import QueryEncoderConfig
from offline.query_encoder.export import export_query_encoder
from offline.query_encoder.model import QueryEncoder, principal_components
from offline.query_encoder.projection import fit_projection
from offline.query_encoder.train import (
    QueryStart,
    TrainedQueryEncoder,
    train_query_encoder,
)
from offline.training.checkpoint import CheckpointError
from offline.training.config import TrainingConfig
from services.candidate.index.flat import FlatIndex
from services.candidate.retrieval.encoders import OnnxQueryEncoder

ITEMS, CONTENT = 12, 6
CONFIG = QueryEncoderConfig(
    dimension=8,
    layers=1,
    heads=2,
    max_history=6,
    dropout=0.1,
    batch_items=60,
    train=TrainingConfig(epochs=4, learning_rate=1e-2, warmup_steps=2, evaluate_every=2),
)


def changed(dropout: float = CONFIG.dropout, **train: int) -> QueryEncoderConfig:
    loop = CONFIG.train.model_copy(update=train)
    return CONFIG.model_copy(update={"dropout": dropout, "train": loop})


VECTORS = np.random.default_rng(0).normal(size=(ITEMS, CONTENT)).astype(np.float32)


def make_dataset(sequences: list[list[int]]) -> Dataset:
    return Dataset(
        name="made-up",
        items=tuple(Item(f"i{i}", f"Film {i}", f"Film {i}", {}) for i in range(ITEMS)),
        user_ids=tuple(f"u{u}" for u in range(len(sequences))),
        indptr=np.cumsum([0, *map(len, sequences)]),
        item_index=np.array([i for s in sequences for i in s], dtype=np.int32),
        timestamps=np.arange(sum(map(len, sequences))),
    )


def cycles(users: int = 30, length: int = 10) -> Dataset:
    """Everyone walks round the catalog, from a place of their own."""
    return make_dataset([[(u + t) % ITEMS for t in range(length)] for u in range(users)])


DATASET = cycles()


@pytest.fixture(scope="module")
def trained() -> TrainedQueryEncoder:
    return train_query_encoder(DATASET, VECTORS, CONFIG, device="cpu")


def test_learns_a_deterministic_walk() -> None:
    config = changed(epochs=15, dropout=0.0)
    trained = train_query_encoder(cycles(), VECTORS, config, device="cpu")
    assert trained.curve[trained.best_epoch] > 0.95
    with torch.inference_mode():
        history = torch.from_numpy(trained.behavior_vectors[None, [3, 4, 5]])
        query = trained.encoder(history)[0, -1].numpy()
    assert int((trained.behavior_vectors @ query).argmax()) == 6


def test_result_is_the_best_epoch_of_the_curve(trained: TrainedQueryEncoder) -> None:
    assert sorted(trained.curve) == [2, 4]
    assert trained.curve[trained.best_epoch] == max(trained.curve.values())
    assert trained.behavior_vectors.shape == (ITEMS, 8)
    np.testing.assert_allclose(np.linalg.norm(trained.behavior_vectors, axis=1), 1, rtol=1e-5)
    assert not trained.encoder.training


def assert_same(a: TrainedQueryEncoder, b: TrainedQueryEncoder) -> None:
    np.testing.assert_array_equal(a.behavior_vectors, b.behavior_vectors)
    assert (a.best_epoch, a.curve) == (b.best_epoch, b.curve)
    state = b.encoder.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in a.encoder.state_dict().items())


def test_the_seed_decides_everything(trained: TrainedQueryEncoder) -> None:
    torch.manual_seed(99)  # what the caller did before has no influence
    before = torch.random.get_rng_state()
    assert_same(train_query_encoder(DATASET, VECTORS, CONFIG, device="cpu"), trained)
    assert torch.equal(torch.random.get_rng_state(), before), "nor has training any on the caller"
    other = changed(seed=1)
    again = train_query_encoder(DATASET, VECTORS, other, device="cpu")
    assert not np.array_equal(again.behavior_vectors, trained.behavior_vectors)


KILLED = """
import os, signal, sys
from pathlib import Path
from offline.query_encoder import train
from tests.offline.query_encoder.test_query_encoder import CONFIG, DATASET, VECTORS

class Killer(train.ProgressBar):
    advanced = 0.0
    def advance(self, task, share=1.0):
        self.advanced += share
        if self.advanced > 2.5:
            os.kill(os.getpid(), signal.SIGKILL)

bar = Killer(disable=True)
path = Path(sys.argv[1])
train.train_query_encoder(
    DATASET, VECTORS, CONFIG, checkpoint_path=path, device="cpu", progress=bar
)
"""


@pytest.mark.slow
def test_killed_in_an_epoch_it_resumes_to_the_same_result(
    tmp_path: Path, trained: TrainedQueryEncoder
) -> None:
    path = tmp_path / "query.safetensors"
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)],
        check=False,
        cwd=Path(__file__).parents[3],
        env=os.environ | threads,
    )
    assert done.returncode == -signal.SIGKILL
    bar = Progress(disable=True)
    resumed = train_query_encoder(
        DATASET, VECTORS, CONFIG, checkpoint_path=path, device="cpu", progress=bar
    )
    assert_same(resumed, trained)
    assert bar.tasks[0].completed == pytest.approx(4)
    again = train_query_encoder(DATASET, VECTORS, CONFIG, checkpoint_path=path, device="cpu")
    assert_same(again, trained)


def test_another_trainings_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "query.safetensors"
    short = changed(epochs=1)
    train_query_encoder(DATASET, VECTORS, short, checkpoint_path=path, device="cpu")
    with pytest.raises(CheckpointError, match="other data or settings"):
        train_query_encoder(DATASET, VECTORS, CONFIG, checkpoint_path=path, device="cpu")
    with pytest.raises(CheckpointError, match="other data or settings"):
        train_query_encoder(cycles(29), VECTORS, short, checkpoint_path=path, device="cpu")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="damaged"):
        train_query_encoder(DATASET, VECTORS, short, checkpoint_path=path, device="cpu")


def test_impossible_data_is_an_error() -> None:
    with pytest.raises(ValueError, match="5 vectors for 12 items"):
        train_query_encoder(DATASET, VECTORS[:5], CONFIG)
    with pytest.raises(ValueError, match="nothing to train on"):
        train_query_encoder(make_dataset([[1, 2, 3], [4]]), VECTORS, CONFIG)
    with pytest.raises(ValueError, match="multiple of twice"):
        QueryEncoderConfig(dimension=100, heads=3)


def test_users_with_one_item_and_no_holdout_are_no_obstacle() -> None:
    config = changed(epochs=1)
    trained = train_query_encoder(make_dataset([[1, 2], [3], []]), VECTORS, config, device="cpu")
    assert trained.curve == {1: 0.0}


def test_the_future_has_no_influence() -> None:
    torch.manual_seed(0)
    encoder = QueryEncoder(CONFIG).eval()
    history = torch.randn(1, 6, 8)
    changed = history.clone()
    changed[:, 3:] = 0.0
    with torch.inference_mode():
        torch.testing.assert_close(encoder(history)[:, :3], encoder(changed)[:, :3])


def test_items_start_from_the_components_of_their_embeddings() -> None:
    start = principal_components(VECTORS, CONFIG.dimension, 0)
    centered = VECTORS - VECTORS.mean(0)
    inner = centered @ centered.T
    expected = inner / (np.trace(inner) / (ITEMS * CONTENT))
    np.testing.assert_allclose(start @ start.T, expected, atol=0.3)
    equal = principal_components(np.ones((ITEMS, CONTENT), np.float32), CONFIG.dimension, 0)
    assert len(np.unique(equal, axis=0)) == ITEMS, "equal texts are told apart"


def test_export_equals_torch(tmp_path: Path, trained: TrainedQueryEncoder) -> None:
    export = export_query_encoder(trained, tmp_path)
    assert export.max_error <= 1e-4
    assert (export.dimension, export.max_history) == (8, 6)
    graph = OnnxQueryEncoder(tmp_path / "query_encoder.onnx", threads=1)
    history = trained.behavior_vectors[[1, 5, 2]]
    with torch.inference_mode():
        expected = trained.encoder(torch.from_numpy(history[None]))[0, -1].numpy()
    np.testing.assert_allclose(graph.encode(history), expected, atol=1e-5)
    vectors = np.load(tmp_path / "behavior_vectors.npy", allow_pickle=False)
    np.testing.assert_array_equal(vectors, trained.behavior_vectors)
    nearest = FlatIndex(vectors).search(vectors[4], 1)
    assert nearest.items.tolist() == [4]


def test_an_export_that_differs_fails_loudly(
    tmp_path: Path, trained: TrainedQueryEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = OnnxQueryEncoder.encode_batch

    def unmasked(self: OnnxQueryEncoder, histories: Any) -> Any:
        longest = max(map(len, histories))
        padded = [np.resize(h, (longest, h.shape[1])) for h in histories]
        return encode(self, padded)

    monkeypatch.setattr(OnnxQueryEncoder, "encode_batch", unmasked)
    with pytest.raises(ParityError, match="differs from the torch model"):
        export_query_encoder(trained, tmp_path)


def project(content: NDArray[np.float32], projection: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a service does with a projection, for many."""
    mapped = content @ projection[:-1] + projection[-1]
    behavior: NDArray[np.float32] = mapped / np.linalg.norm(mapped, axis=1, keepdims=True)
    return behavior


def test_new_items_are_placed_by_their_text() -> None:
    rng = np.random.default_rng(1)
    content = rng.normal(size=(200, CONTENT)).astype(np.float32)
    truth = rng.normal(size=(CONTENT, 3)).astype(np.float32)
    behavior = content @ truth
    behavior /= np.linalg.norm(behavior, axis=1, keepdims=True)
    behavior[:50] = rng.normal(size=(50, 3))  # nobody has seen these: they say nothing
    interactions = np.where(np.arange(150) < 50, 0, 10_000)
    projection = fit_projection(content[:150], behavior[:150], interactions)
    assert projection.shape == (CONTENT + 1, 3)
    placed = project(content[150:], projection)
    np.testing.assert_allclose(np.linalg.norm(placed, axis=1), 1, rtol=1e-5)
    assert (placed * behavior[150:]).sum(1).mean() > 0.9
    even = project(content[150:], fit_projection(content[:150], behavior[:150], np.ones(150, int)))
    assert (placed * behavior[150:]).sum(1).mean() > (even * behavior[150:]).sum(1).mean()


def test_training_goes_on_from_what_was_reached(trained: TrainedQueryEncoder) -> None:
    vectors = trained.behavior_vectors * 3  # only their direction means something
    start = QueryStart(trained.encoder, vectors)
    again = train_query_encoder(DATASET, VECTORS, CONFIG, start=start, device="cpu")
    assert again.curve[0] == trained.curve[trained.best_epoch]
    assert again.curve[again.best_epoch] >= again.curve[0]
    wide = CONFIG.model_copy(update={"dimension": 16})
    with pytest.raises(RuntimeError, match="size"):
        train_query_encoder(DATASET, VECTORS, wide, start=start, device="cpu")

"""The ratings that the exported graphs predict against those of the model itself."""

import numpy as np
import torch

from offline.generator.items.model import ItemT5
from offline.generator.items.ratings import rating_logits
from offline.parity import ParityError
from services.generator.decoding.engine import GeneratorEngine
from services.generator.decoding.rater import Rater, RatingQuery
from services.generator.decoding.ratings import MOST_SHOWN, RatedItems

_ROWS = 64
_TOLERANCE = 1e-4
"""Of a rating, by the distance of the highest from the lowest."""


@torch.inference_mode()
def require_equal_ratings(engine: GeneratorEngine, model: ItemT5, seed: int = 0) -> float:
    """Compares ratings of random items after rows of random ratings.

    Args:
        engine: of the exported graphs in fp32, with the catalog that it was exported with.
        model: what was exported.
        seed: of the choice.

    Returns:
        The largest difference.

    Raises:
        ParityError: they differ.
    """
    rater, rng = Rater.of(engine), np.random.default_rng(seed)
    values, items = rater.known.values, len(engine.snapshot.codes)
    words = torch.tensor([engine.parts.words(rater.known.template, None)])
    difference = 0.0
    for _ in range(_ROWS):
        length = min(int(rng.integers(1, MOST_SHOWN + 2)), items)
        row, given = rng.permutation(items)[:length], rng.integers(0, len(values), length)
        told = RatedItems(row[:-1].astype(np.int32), given[:-1])
        job = rater.prepare(RatingQuery(told, row[-1:].astype(np.int32)))
        read = (len(job.prompts[0]) - words.shape[1] + 1) // 2  # a short prompt shows fewer
        shown, known = torch.from_numpy(row[-read:])[None], torch.from_numpy(given[-read:])[None]
        chances = rating_logits(model, words, shown, known)[0, -1].softmax(0)
        expected = float(chances.double().numpy() @ values)
        (served,) = rater.run([job])
        difference = max(difference, abs(expected - float(served[0])))
    if difference > _TOLERANCE * float(values[-1] - values[0]):
        raise ParityError(f"the exported graphs predict other ratings, {difference:.2g} apart")
    return difference

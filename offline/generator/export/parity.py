"""The exported graphs against `transformers`: same items, same order, same scores.

What they are compared with is what research code runs: `generate` with `prefix_allowed_tokens_fn`
and beam search (https://huggingface.co/docs/transformers/main_classes/text_generation).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from offline.parity import ParityError
from services.generator.decoding.arrays import Prompts
from services.generator.decoding.engine import GeneratorEngine, Ranked, RankingQuery

TOLERANCE: Final = 1e-4
"""The largest difference of a log-probability."""


@dataclass(frozen=True)
class Parity:
    """How close the graphs came."""

    users: int
    identical_lists: int
    """Users whose ranked lists are equal, up to the order of scores that tie within TOLERANCE; with
    codes of different lengths, users whose lists are nowhere worse."""
    largest_difference: float
    """Of the scores of `generate.onnx`."""
    largest_rerank_difference: float
    """Of the scores of `rerank.onnx`, for the same items."""

    def require(self) -> None:
        """Refuses an export that differs.

        Raises:
            ParityError: saying by how much.
        """
        difference = max(self.largest_difference, self.largest_rerank_difference)
        if self.identical_lists < self.users or difference > TOLERANCE:
            raise ParityError(
                f"{self.identical_lists} of {self.users} ranked lists equal those of transformers, "
                f"and scores differ by up to {difference:.2e} (allowed: {TOLERANCE:.0e})"
            )


def compare(
    engine: GeneratorEngine,
    model: PreTrainedModel,
    queries: Sequence[RankingQuery],
    batch_size: int = 16,
    advance: Callable[[int], None] = lambda _: None,
) -> Parity:
    """Decodes the same prompts both ways, in padded batches.

    Where codes have different lengths `transformers` passes over a code that ends outside of its
    best beams, which the graph keeps. There a list agrees when it is nowhere worse.

    Args:
        engine: of the exported graphs.
        model: what was exported.
        queries: of a generation without filters; its count is the number of beams.
        batch_size: prompts a batch.
        advance: told how many queries were compared.
    """
    fixed = _is_fixed(engine)
    agreeing, difference, rerank_difference = 0, 0.0, 0.0
    for start in range(0, len(queries), batch_size):
        chunk = queries[start : start + batch_size]
        expected = reference(engine, model, chunk)
        found = engine.generate(chunk)
        for query, (items, scores), ranked in zip(chunk, expected, found, strict=True):
            if fixed:
                agreeing += same_ranking(items, scores, ranked.items)
            else:
                agreeing += _at_least_as_good(scores, ranked.scores)
            (again,) = engine.rerank([RankingQuery(query.context, shortlist=items)])
            difference = max(difference, largest_gap(items, scores, ranked))
            rerank_difference = max(rerank_difference, largest_gap(items, scores, again))
        advance(len(chunk))
    return Parity(len(queries), agreeing, difference, rerank_difference)


def reference(
    engine: GeneratorEngine, model: PreTrainedModel, queries: Sequence[RankingQuery]
) -> list[tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """What `transformers` answers: items and scores, best first, for each query."""
    section = engine.parts.section
    beams = queries[0].generation.count if queries[0].generation else section.beams
    prompts = prompts_of(engine, queries)
    start = 1  # after the start token
    if not model.config.is_encoder_decoder:
        prompts = padded_on_the_left(prompts)
        start = prompts.input_ids.shape[1]  # what is generated follows the prompt
    options: dict[str, Any] = {
        "num_beams": beams,
        "num_return_sequences": beams,
        "min_new_tokens": section.code_length if _is_fixed(engine) else None,
        "max_new_tokens": section.code_length,
        "length_penalty": 0.0,  # scores are sums, as the graph's are
        "do_sample": False,
        "return_dict_in_generate": True,
        "output_scores": True,
        "prefix_allowed_tokens_fn": allowed_tokens(engine, start),
    }
    with torch.inference_mode():
        generate: Any = model.generate  # typed for one kind of model only
        output = generate(
            torch.from_numpy(prompts.input_ids),
            attention_mask=torch.from_numpy(prompts.attention_mask),
            **options,
        )
    sequences = output.sequences.view(len(queries), beams, -1)[:, :, start:].numpy()
    scores = output.sequences_scores.view(len(queries), beams).numpy()
    items = {tuple(code): item for item, code in enumerate(engine.snapshot.codes.tolist())}
    width = section.code_length
    padded = np.full((*sequences.shape[:2], width), section.pad_token, dtype=np.int64)
    padded[:, :, : sequences.shape[2]] = sequences
    # transformers fills what follows an end with further ends where the pad token is 0.
    ends = np.cumsum(padded == section.eos_token, axis=2)
    padded[(ends > 1) | ((ends == 1) & (padded != section.eos_token))] = section.pad_token
    answers = []
    for rows, row_scores in zip(padded.tolist(), scores, strict=True):
        # Beams beyond the last legal code hold what the mask forbids, at minus infinity.
        legal = [i for i, code in enumerate(rows) if tuple(code) in items]
        found = np.array([items[tuple(rows[i])] for i in legal], dtype=np.int32)
        answers.append((found, row_scores[legal]))
    return answers


def prompts_of(engine: GeneratorEngine, queries: Sequence[RankingQuery]) -> Prompts:
    """The prompts of queries, padded."""
    rendered = [engine.render(query.context) for query in queries]
    return Prompts.of(rendered, engine.parts.section.pad_token)


def padded_on_the_left(prompts: Prompts) -> Prompts:
    """The same prompts, their ends side by side: a decoder-only model goes on from there."""
    ids, mask = prompts.input_ids.copy(), prompts.attention_mask.copy()
    for row, length in enumerate(mask.sum(axis=1).tolist()):
        for array in (ids, mask):
            array[row] = np.roll(array[row], array.shape[1] - length)
    return replace(prompts, input_ids=ids, attention_mask=mask)


def allowed_tokens(
    engine: GeneratorEngine, start: int = 1
) -> Callable[[int, torch.Tensor], list[int]]:
    """A `prefix_allowed_tokens_fn` that walks the same trie, in dictionaries, as is usual.

    Args:
        engine: whose catalog is walked.
        start: how many tokens stand before the code.
    """
    section = engine.parts.section
    children: dict[tuple[int, ...], set[int]] = {}
    for code in engine.snapshot.codes.tolist():
        for length, token in enumerate(code):
            children.setdefault(tuple(code[:length]), set()).add(token)
    after_end = [section.eos_token]  # an empty list after the end would be an error
    sorted_children = {prefix: sorted(tokens) for prefix, tokens in children.items()}

    def allowed(_row: int, sequence: torch.Tensor) -> list[int]:
        return sorted_children.get(tuple(sequence[start:].tolist()), after_end)

    return allowed


def _is_fixed(engine: GeneratorEngine) -> bool:
    """Whether codes end by their length rather than with the end-of-sequence token."""
    return bool((engine.snapshot.codes[:, -1] != engine.parts.section.eos_token).all())


def same_ranking(
    expected: NDArray[np.int32], scores: NDArray[np.float32], found: NDArray[np.int32]
) -> bool:
    """Equal lists; items whose scores tie within TOLERANCE may stand in either order."""
    if len(expected) != len(found):
        return False
    place = {item: i for i, item in enumerate(expected.tolist())}
    return all(
        item in place and abs(float(scores[place[item]]) - float(scores[i])) <= TOLERANCE
        for i, item in enumerate(found.tolist())
    )


def _at_least_as_good(expected: NDArray[np.float32], found: NDArray[np.float32]) -> bool:
    """Whether every place of a list has at least the score that it has in the other."""
    return len(found) >= len(expected) and bool(
        (found[: len(expected)] >= expected - TOLERANCE).all()
    )


def largest_gap(items: NDArray[np.int32], scores: NDArray[np.float32], ranked: Ranked) -> float:
    """The largest difference between two scores of an item that both lists have."""
    ours = dict(zip(ranked.items.tolist(), ranked.scores.tolist(), strict=True))
    pairs = zip(items.tolist(), scores.tolist(), strict=True)
    return max((abs(score - ours[item]) for item, score in pairs if item in ours), default=0.0)

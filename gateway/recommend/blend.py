"""Makes one ranking of two scores per item.

Both scores are log-probabilities, so that a weighted sum is a product of experts: it ranks an item
high that neither finds unlikely. The weights were chosen on validation and travel in the bundle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.manifest import BlendWeights
from gateway.domain import Recommended, Scored


@dataclass(frozen=True)
class Weights:
    """How much each log-probability counts."""

    retrieval: float
    generator: float
    transitions: float = 0.0
    """Of the transitions alone, beside their part in the retrieval's score."""

    @classmethod
    def of(cls, section: BlendWeights) -> "Weights":
        """Those of a bundle."""
        return cls(section.retrieval_weight, section.generator_weight, section.transition_weight)


def blend(
    retrieved: Sequence[Scored], generated: Sequence[Scored], weights: Weights
) -> list[Recommended]:
    """Ranks the union of two scored lists by the weighted sum of their scores.

    An item that one list lacks counts there with that list's lowest score. For a generated item
    outside of the shortlist this is an upper bound, since the shortlist holds the best scores that
    retrieval gives; for a shortlisted item that the generator does not know (its bundle is
    another) it is a guess, on the low side. The absent score stays absent in the result. Where a
    list is empty, the other alone decides. Where a shortlist is not made of transitions, its score
    stands in for theirs.

    Args:
        retrieved: the candidate service's scores.
        generated: the generator's scores.
        weights: of the two.

    Returns:
        Each item once, best first; equal scores in the order of `retrieved`, then of `generated`.
    """
    retrieval = {item.item_id: item.score for item in retrieved}
    transitions = {
        item.item_id: item.score if item.transitions is None else item.transitions
        for item in retrieved
    }
    generator = {item.item_id: item.score for item in generated}
    lowest_retrieval = min(retrieval.values(), default=0.0)
    lowest_transitions = min(transitions.values(), default=0.0)
    lowest_generator = min(generator.values(), default=0.0)
    merged = [
        Recommended(
            item_id=item_id,
            score=weights.retrieval * retrieval.get(item_id, lowest_retrieval)
            + weights.transitions * transitions.get(item_id, lowest_transitions)
            + weights.generator * generator.get(item_id, lowest_generator),
            retrieval=retrieval.get(item_id),
            generator=generator.get(item_id),
        )
        for item_id in _union(retrieval, generator)
    ]
    return sorted(merged, key=lambda item: -item.score)


def retrieved_only(retrieved: Sequence[Scored]) -> list[Recommended]:
    """The shortlist as it is."""
    return [Recommended(item.item_id, item.score, retrieval=item.score) for item in retrieved]


def generated_only(generated: Sequence[Scored]) -> list[Recommended]:
    """The generated list as it is."""
    return [Recommended(item.item_id, item.score, generator=item.score) for item in generated]


def _union(first: Mapping[str, float], second: Mapping[str, float]) -> list[str]:
    return list(dict.fromkeys([*first, *second]))

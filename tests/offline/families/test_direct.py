"""One in a hundred."""

import numpy as np

from offline.evaluate.families.direct import ranks


def test_ranks_count_what_is_better_and_half_of_ties() -> None:
    scores = [np.array([2.0, 3.0, 1.0, 2.5]), np.array([1.0, 1.0, 1.0, 1.0]), np.array([5.0])]
    assert ranks(scores).tolist() == [3.0, 2.0, 1.0]

"""What others published on the same data, unfiltered: OpenP5 with T5-small.

S. Xu, W. Hua, Y. Zhang, "OpenP5: An Open-Source Platform for Developing, Training, and Evaluating
LLM-based Recommender Systems", https://arxiv.org/abs/2306.11134.
"""

from collections.abc import Mapping
from typing import Final

METRICS: Final = ("hr@5", "ndcg@5", "hr@10", "ndcg@10")

Figures = tuple[float, float, float, float]

PUBLISHED: Final[Mapping[str, Mapping[tuple[str, str], Figures]]] = {
    "ml-100k": {
        ("sequential", "sequential"): (0.0678, 0.0427, 0.1208, 0.0595),
        ("random", "sequential"): (0.0551, 0.0352, 0.0922, 0.0470),
        ("collaborative", "sequential"): (0.0530, 0.0331, 0.1006, 0.0481),
        ("collaborative", "direct"): (0.0244, 0.0128, 0.0498, 0.0208),
    }
}
"""By data set, then by indexing and task, in the order of `METRICS`."""

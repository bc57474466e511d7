"""Behavior vectors for items that nobody has interacted with: from their text alone.

A linear map from content vectors to behavior vectors, fitted by ridge regression on the catalog
after training, in the manner of Gantner et al., "Learning Attribute-to-Feature Mappings for
Cold-Start Recommendations" (ICDM 2010). Fitting it afterwards leaves the training as it is.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

FloatArray = NDArray[np.float32]

_PENALTIES = np.logspace(-2, 3, 11)


def fit_projection(content: FloatArray, behavior: FloatArray) -> FloatArray:
    """Fits the map; its penalty is chosen by leaving out one item at a time.

    Args:
        content: float32 [items, content dimension].
        behavior: float32 [items, dimension].

    Returns:
        float32 [content dimension + 1, dimension]; the last row is the intercept.
    """
    ridge = RidgeCV(alphas=_PENALTIES).fit(content.astype(np.float64), behavior)
    return np.vstack([ridge.coef_.T, ridge.intercept_]).astype(np.float32)


def project(content: FloatArray, projection: FloatArray) -> FloatArray:
    """Maps content vectors to behavior vectors of unit norm, float32 [items, dimension]."""
    mapped = content @ projection[:-1] + projection[-1]
    result: FloatArray = mapped / np.linalg.norm(mapped, axis=1, keepdims=True)
    return result

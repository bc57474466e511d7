"""The offline pipeline: from interaction logs and item text to a bundle.

The only place that imports torch or transformers.
"""

import os

# OpenMP reads this when torch loads it, so it stands before that. Threads that wait for others of a
# step spin unless told otherwise; beside other work on the same cores that costs several times the
# work itself (docs/log.md).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

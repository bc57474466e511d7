"""The offline pipeline: from interaction logs and item text to a bundle.

The only place that imports torch or transformers.
"""

import os

# OpenMP reads these when torch loads it, so they stand before that. Threads that wait for others of
# a step spin for long unless told otherwise; beside other work on the same cores that costs several
# times the work itself. Not to spin at all costs a third on a quiet machine. Ten thousand turns,
# some tens of microseconds, are near the better of both in either case (docs/log.md). Only GNU's
# OpenMP counts turns; to others the policy stands.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

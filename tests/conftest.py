"""What all tests share."""

from hypothesis import settings

# No test asserts on time, not even hypothesis: a busy machine is no defect.
settings.register_profile("tandem", deadline=None)
settings.load_profile("tandem")

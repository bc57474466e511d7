"""What each stage of a call took, for its answer."""

from tandem.v1.common_pb2 import StageTiming


def stage_timing(stage: str, seconds: float, budget: float | None = None) -> StageTiming:
    """Writes the time of a stage, and the time that it was given, if any; both in seconds."""
    timing = StageTiming(stage=stage)
    timing.duration.FromNanoseconds(int(seconds * 1e9))
    if budget is not None:
        timing.budget.FromNanoseconds(int(budget * 1e9))
    return timing

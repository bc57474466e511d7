"""What the generator service counts, beside the calls that every server counts."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.generator.decoding.engine import DecodingJob
from services.generator.decoding.rater import RatingJob
from services.generator.text.metrics import TextMetrics
from serving.telemetry.metrics import SECONDS, CatalogMetrics

Job = DecodingJob | RatingJob
Run = Callable[[Sequence[Any]], Sequence[Any]]
"""Answers jobs of one kind."""

JOBS: Final = (1, 2, 4, 8, 16, 32, 64)
BEAMS: Final = (5, 10, 20, 30, 50, 100, 200)
TOKENS: Final = (8, 16, 32, 64, 128, 256, 512)


class GeneratorMetrics:
    """What the generator service counts.

    Args:
        registry: of the process.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = registry or CollectorRegistry()
        self.catalog = CatalogMetrics(registry)
        self.text = TextMetrics(registry)

        def histogram(name: str, meaning: str, bounds: Sequence[float]) -> Histogram:
            return Histogram(f"tandem_generator_{name}", meaning, buckets=bounds, registry=registry)

        self._prepared = histogram(
            "prepare_seconds", "From a job's arrival until it was ready for the model.", SECONDS
        )
        self._queued = histogram("queue_seconds", "From then until its batch began.", SECONDS)
        self._ran = histogram("batch_seconds", "What a run of the model took.", SECONDS)
        self._jobs = histogram("batch_jobs", "Jobs that shared a run of the model.", JOBS)
        self._tokens = histogram(
            "prompt_tokens",
            "Positions of a job's prompt: tokens, or the words and items of a model that reads "
            "whole items.",
            TOKENS,
        )
        self._beams = histogram("beams", "Beams of a job that generates.", BEAMS)
        self._padding = Counter(
            "tandem_generator_padding_tokens_total",
            "Positions that were padding, for the longest prompt of a batch.",
            registry=registry,
        )
        self._waiting = Gauge(
            "tandem_generator_jobs_waiting",
            "Jobs that are prepared or wait for the model.",
            registry=registry,
        )

    def follow(self, waiting: Callable[[], int]) -> None:
        """Reads the queue's length from now on."""
        self._waiting.set_function(waiting)

    def watched(self, run: Run) -> Run:
        """What runs batches, each of which is noted."""

        def noted(jobs: Sequence[Job]) -> Sequence[Any]:
            started = time.perf_counter()
            answers = run(jobs)
            self._note(jobs, time.perf_counter() - started)
            return answers

        return noted

    def _note(self, jobs: Sequence[Job], seconds: float) -> None:
        self._ran.observe(seconds)
        self._jobs.observe(len(jobs))
        longest = max(job.tokens for job in jobs)
        for job in jobs:
            self._tokens.observe(job.tokens)
            self._padding.inc(longest - job.tokens)
            if isinstance(job, DecodingJob) and job.search is not None:
                self._beams.observe(job.search.beams)

    def served(self, prepared: float, queued: float) -> None:
        """Notes what a job of a batch had behind it, in seconds."""
        self._prepared.observe(prepared)
        self._queued.observe(queued)

"""Evaluating one of P5's families of a bundle."""

from typing import Final, Literal

from rich.progress import Progress

from core.bundle import Bundle
from offline.evaluate.families.direct import direct_report
from offline.evaluate.families.figures import FamilyReport
from offline.evaluate.families.written import text_report
from offline.evaluate.protocol import Split

Family = Literal["direct", "explanation", "review"]
DIGITS: Final = {"direct": 4, "explanation": 2, "review": 2}
"""Behind the point, in the table of a family."""


def evaluate_family(
    bundle: Bundle, family: Family, split: Split = "test", examples: int | None = None
) -> FamilyReport:
    """Evaluates a family.

    Args:
        bundle: what to evaluate.
        family: which family.
        split: the test examples, or those of validation.
        examples: only so many, picked at random; all by default.
    """
    with Progress(transient=True) as progress:
        task = progress.add_task(f"Evaluating {family}", total=None)

        def advance(count: int) -> None:
            progress.advance(task, count)

        if family == "direct":
            return direct_report(bundle, split, examples, advance)
        return text_report(bundle, family, split, examples, advance)

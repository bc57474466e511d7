"""How far the answers of a bundle's precisions are apart.

    python -m bench.precision --bundle bundles/ml-100k/current

float32 is compared with the model that was trained, as the build did; every other precision with
float32, over validation targets, as the build's gate does. On a CPU without VNNI 8-bit products
saturate, which the figures then include, and `--precision auto` serves float32.
"""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from bench.lib.report import publish, run
from core.bundle import Bundle
from offline.build.precision import PrecisionLoss, measure_loss, questions
from services.generator.decoding.providers import multiplies_bytes

HEADER = [
    "precision", "compared with", "users", "scores differ by at most", "on average",
    "ten best in common", "NDCG@10 lost",
]  # fmt: skip


def row(precision: str, loss: PrecisionLoss) -> list[str]:
    """A precision beside float32."""
    lost = f"{loss.relative_loss:+.2%} (± {loss.half_width:.2%}), " + (
        "at most 1% allowed" if loss.resolved else "too few users to tell 1%"
    )
    scores = (f"{loss.largest_score_difference:.3f}", f"{loss.score_difference:.4f}")
    return [precision, "fp32", f"{loss.questions:,}", *scores, f"{loss.overlap:.1%}", lost]


def main(
    bundle: Annotated[Path, typer.Option(help="That holds the precisions.")] = Path(
        "bundles/ml-100k/current"
    ),
    users: Annotated[int, typer.Option(help="At most.", min=1)] = 1_000,
) -> None:
    """Measure what each precision changes."""
    opened = Bundle.open(bundle, verify=False)
    parity, asked = opened.manifest.metrics["parity"], questions(opened)[:users]
    difference = max(parity["largest_difference"], parity["largest_rerank_difference"])
    figures: dict[str, float] = {"fp32_largest_score_difference": difference}
    exact = ["fp32", "the trained model", f"{parity['users']:,}", f"{difference:.0e}", "", "", ""]
    exact[5] = f"{parity['identical_lists'] / parity['users']:.0%} of lists equal"
    table = [HEADER, exact]
    with Progress(transient=True) as progress:
        for precision in opened.manifest.generator.precisions[1:]:
            task = progress.add_task(precision, total=2 * len(asked))
            loss = measure_loss(opened, precision, asked, partial(progress.advance, task))
            table.append(row(precision, loss))
            figures |= {
                f"{precision}_relative_loss": loss.relative_loss,
                f"{precision}_half_width": loss.half_width,
                f"{precision}_overlap": loss.overlap,
                f"{precision}_score_difference": loss.score_difference,
            }
    saturates = "" if multiplies_bytes() else ", 8-bit products saturating on this CPU"
    publish(
        "precision", figures, table, precision=f"as named{saturates}", caches="warm",
        bundle=opened.version,
    )  # fmt: skip


if __name__ == "__main__":
    run(main)

"""The stage `evaluate`: the bundle with its weights, and what it reaches on the test items."""

from pathlib import Path
from typing import Final

from offline.build.config import Settings
from offline.build.files import read_json, write_json
from offline.build.stage import Earlier, Stage


def _make(_: Settings, earlier: Earlier, out: Path) -> None:
    from core.bundle import Bundle
    from core.manifest import BlendSection
    from offline.build.drafts import open_draft, reissue
    from offline.evaluate.report import evaluate_bundle, print_report

    chosen = read_json(earlier["blend"] / "blend.json")
    draft = open_draft(earlier["export"])
    tuned = draft.manifest.model_copy(
        update={
            "candidate": draft.manifest.candidate.model_copy(update=chosen["candidate"]),
            "blend": BlendSection.model_validate(chosen["blend"]),
        }
    )
    report = evaluate_bundle(Bundle.open(reissue(draft, tuned, out), verify=False))
    print_report(report)
    agreement = read_json(earlier["export"] / "agreement.json")
    metrics = {**report.to_json(), "validation": chosen["validation"], **agreement}
    write_json(out / "metrics.json", metrics)


EVALUATE: Final = Stage(
    "evaluate", settings=lambda _: Settings(), make=_make, needs=("export", "blend")
)

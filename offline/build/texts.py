"""What the stage of the generator does for the families that write text."""

from pathlib import Path
from typing import TYPE_CHECKING

from offline.dataset.errors import DataError
from offline.dataset.reviews import Reviews
from offline.dataset.schema import Dataset
from offline.evaluate.families.constants import candidates
from offline.generator.config import FamilyShares
from offline.generator.texts.learned import NAMES
from offline.reviews.examples import Written
from offline.reviews.held_out import HeldOut, sample, write_held_out
from offline.reviews.parts import Part

if TYPE_CHECKING:
    from offline.build.stages.generator import GeneratorSettings


def read_written(settings: "GeneratorSettings", data: Dataset, directory: Path) -> Written | None:
    """What users wrote, if a family writes text.

    Args:
        settings: of the stage.
        data: the dataset.
        directory: of the stage that made it.

    Raises:
        DataError: there are no texts, or the model cannot learn them.
    """
    if not settings.model.families.write_text:
        return None
    if not settings.reads_items:
        raise DataError("explanations and summaries are written by models that read whole items")
    reviews = Reviews.load(directory)
    if reviews is None:
        raise DataError("explanations and summaries are learned from texts: name --review-column")
    return Written.of(data, reviews)


def split_seed(directory: Path, seed: int) -> int:
    """The seed by which ratings are held out.

    Texts are always drawn alike, because they describe items too (`offline.reviews.items`), and a
    rating that is tested on must not be learned by its text: so where there are texts, ratings are
    drawn as they are.

    Args:
        directory: of the stage `dataset`.
        seed: of the build, which decides where there are none.
    """
    return seed if Reviews.load(directory) is None else 0


def save_held_out(written: Written, shares: FamilyShares, out: Path) -> None:
    """Writes what the families that write text are tested on."""
    families = {
        name: HeldOut(
            sample(written, name, Part.VALIDATION),
            sample(written, name, Part.TEST),
            candidates([e.target for e in written.examples(name, Part.TRAINING)]),
        )
        for name in NAMES
        if getattr(shares, name)
    }
    write_held_out(families, out)

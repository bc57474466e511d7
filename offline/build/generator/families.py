"""What the stage of the generator does for the families beside recommending."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from offline.dataset.errors import DataError
from offline.dataset.reviews import Reviews
from offline.dataset.schema import Dataset
from offline.evaluate.families.constants import candidates
from offline.generator.texts.learned import NAMES, TextMaterial
from offline.ratings.rated import Ratings
from offline.reviews.examples import Written
from offline.reviews.held_out import HeldOut, sample, write_held_out
from offline.reviews.parts import Part
from services.generator.prompts import RATING, Template, has_task

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


def read_ratings(
    settings: "GeneratorSettings", data: Dataset, templates: Sequence[Template], directory: Path
) -> Ratings | None:
    """What is learned of ratings: nothing where there are none, unless that is asked for.

    Args:
        settings: of the stage.
        data: the dataset.
        templates: what is asked.
        directory: of the stage that made the dataset.
    """
    share = settings.model.families.rating
    if share is None and (data.ratings is None or not has_task(templates, RATING)):
        return None
    if share == 0:
        return None
    return Ratings.of(data, split_seed(directory, settings.seed))


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


def text_material(
    settings: "GeneratorSettings",
    written: Written,
    templates: Sequence[Template],
    tokenizer: Tokenizer,
    user_tokens: int,
) -> TextMaterial:
    """What the families that write text are made of, for a model that reads whole items."""
    model = settings.model
    positions = model.max_input_tokens + model.max_history
    return TextMaterial(written, templates, tokenizer, user_tokens, positions, model.texts)


def save_texts(texts: TextMaterial, settings: "GeneratorSettings", out: Path) -> dict[str, Any]:
    """Writes what the families are tested on, and returns what an export must know of them."""
    written = texts.written
    families = {
        name: HeldOut(
            sample(written, name, Part.VALIDATION),
            sample(written, name, Part.TEST),
            candidates([e.target for e in written.examples(name, Part.TRAINING)]),
        )
        for name in NAMES
        if getattr(settings.model.families, name)
    }
    write_held_out(families, out)
    prompts = texts.some_prompts(settings.seed)  # 8-bit products are fitted to them
    return {"text_tokens": settings.model.texts.max_tokens, "text_prompts": prompts}

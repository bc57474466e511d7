"""Whether a bundle has learned what another build holds out.

Leave-one-out keeps a user's last two interactions from training, and tomorrow's last two are later
ones, so that nothing held out has been learned as long as data only grow. It is otherwise where
interactions at a user's end are gone since, and where a user had fewer than three, who is training
as a whole.
"""

from collections import Counter
from typing import Final

from rich.console import Console

from core.bundle import Bundle
from offline.dataset.errors import DataError
from offline.dataset.schema import Dataset
from offline.dataset.split import training_length

MOST_LEAKED: Final = 0.01
"""The share of what is held out that may have been learned: less than intervals tell apart."""


def check_leaks(bundle: Bundle, data: Dataset) -> None:
    """Says how much of what is held out the bundle has learned, if any.

    Raises:
        DataError: it is too much.
    """
    found, held_out = leaked(bundle, data)
    said = (
        f"{bundle.version} was trained on {found:,} of the {held_out:,} interactions that validate "
        "and test this build"
    )
    if found > MOST_LEAKED * held_out:
        raise DataError(
            f"{said}, which would look better than it is: the data have lost interactions since. "
            "Build without --warm-from"
        )
    if found:
        Console().print(f"{said}: too few to be seen in what it reaches", highlight=False)


def leaked(bundle: Bundle, data: Dataset) -> tuple[int, int]:
    """How many of today's held-out interactions the bundle was trained on.

    Whoever came back to an item has it both in training and held out, which is no leak.

    Args:
        bundle: as `tandem build` made it.
        data: of today.

    Returns:
        That number, and how many are held out.
    """
    item_ids, catalog = data.item_ids, bundle.catalog
    found = held_out = 0
    for user, training in enumerate(data.train()):
        later = data.history(user)[len(training) :]
        held_out += len(later)
        before = bundle.histories.of(data.user_ids[user])
        if before is None:
            continue
        learned = Counter(catalog.ids(before[: training_length(len(before))]))
        learned.subtract(item_ids[item] for item in training)
        asked = Counter(item_ids[item] for item in later)
        found += sum(min(count, max(0, learned[item])) for item, count in asked.items())
    return found, held_out

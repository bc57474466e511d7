"""What a bundle has learned of what another build holds out."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.bundle import Bundle, write_bundle
from offline.dataset.errors import DataError
from offline.dataset.schema import Dataset, Item
from offline.warm.leaks import check_leaks, leaked
from tests import tiny_bundle

History = list[int]


def data_of(histories: Mapping[str, History]) -> Dataset:
    """The same items as the bundle's, in the other order."""
    places = list(reversed(range(tiny_bundle.ITEMS)))
    items = tuple(Item(tiny_bundle.item_id(i), "", "", {}) for i in places)
    flat = [places.index(item) for history in histories.values() for item in history]
    lengths = [len(history) for history in histories.values()]
    return Dataset(
        "made-up",
        items,
        tuple(histories),
        np.cumsum([0, *lengths]),
        np.array(flat, np.int32),
        np.arange(len(flat)),
    )


def bundle_of(root: Path, histories: Mapping[str, History]) -> Bundle:
    manifest = tiny_bundle.manifest(users=len(histories))
    with write_bundle(root, manifest) as directory:
        tiny_bundle.write_files(directory, histories)
    return Bundle.open(root / "tiny" / "1")


@pytest.mark.parametrize(
    ("before", "now", "found"),
    [
        pytest.param([1, 2, 3, 4], [1, 2, 3, 4], 0, id="the same"),
        pytest.param([1, 2, 3, 4], [1, 2, 3, 4, 5], 0, id="one more"),
        pytest.param([1, 2, 3, 4], [1, 2, 3], 1, id="one less"),
        pytest.param([1, 2, 3, 4, 5], [1, 2, 3], 2, id="two less"),
        pytest.param([1, 2], [1, 2, 3], 1, id="all of two were learned"),
        pytest.param([1, 2, 3, 4], [1, 2, 3, 1, 2], 0, id="who comes back"),
        pytest.param([1, 2, 1, 4, 5], [1, 2, 1, 4], 1, id="one of two"),
        pytest.param([1, 2, 3, 4], [1, 0, 2, 3, 4], 0, id="a late one in between"),
    ],
)
def test_what_was_learned_and_is_held_out_is_counted(
    tmp_path: Path, before: History, now: History, found: int
) -> None:
    bundle = bundle_of(tmp_path, {"ann": before, "gone": [1, 2, 3, 4]})
    assert leaked(bundle, data_of({"ann": now, "new": [1, 2, 3]})) == (found, 4)


histories = st.dictionaries(
    st.sampled_from(["ann", "bob", "cid", "dan"]),
    st.lists(st.integers(0, tiny_bundle.ITEMS - 1), min_size=3, max_size=8),
    min_size=1,
)


@given(before=histories, later=histories)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_leaks_while_data_only_grow(
    tmp_path_factory: pytest.TempPathFactory,
    before: dict[str, History],
    later: dict[str, History],
) -> None:
    users = before.keys() | later.keys()
    now = {user: before.get(user, []) + later.get(user, []) for user in sorted(users)}
    found, _ = leaked(bundle_of(tmp_path_factory.mktemp("grown"), before), data_of(now))
    assert found == 0


def test_many_leaks_are_refused_and_few_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = {f"u{user}": [1, 2, 3, 4, 5] for user in range(100)}
    bundle = bundle_of(tmp_path, many)
    check_leaks(bundle, data_of(many))
    assert not capsys.readouterr().out
    check_leaks(bundle, data_of(many | {"u0": [1, 2, 3]}))
    assert "2 of the 200 interactions" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(DataError, match="4 of the 200 interactions"):
        check_leaks(bundle, data_of(many | {"u0": [1, 2, 3], "u1": [1, 2, 3]}))

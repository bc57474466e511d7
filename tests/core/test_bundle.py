"""A bundle exists whole or not at all, and is not read when it was altered."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from core.bundle import Bundle, versions, write_bundle
from core.errors import BundleError
from core.manifest import Manifest, StoreSection
from tests.tiny_bundle import HISTORIES, ITEMS, manifest, write_files, write_tiny_bundle

REPOSITORY = Path(__file__).parents[2]


def visible(root: Path) -> list[str]:
    return sorted(p.name for p in (root / "tiny").iterdir() if not p.name.startswith("."))


def test_written_bundle_reads_back(tmp_path: Path) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    assert bundle.version == "tiny/1"
    assert len(bundle.catalog) == ITEMS
    assert {
        user: items.tolist()
        for user in HISTORIES
        if (items := bundle.histories.of(user)) is not None
    } == HISTORIES
    assert bundle.histories.of("nobody") is None
    assert set(bundle.manifest.files) == {
        "catalog.jsonl",
        "users.json",
        "histories_indptr.npy",
        "histories_items.npy",
    }


def write_and_fail(root: Path, version: str) -> None:
    with write_bundle(root, manifest(version)) as directory:
        (directory / "catalog.jsonl").write_text("half")
        raise RuntimeError("training failed")


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path, "1")
    with pytest.raises(RuntimeError, match="training failed"):
        write_and_fail(tmp_path, "2")
    # Nor hidden leftovers.
    assert sorted(p.name for p in (tmp_path / "tiny").iterdir()) == ["1", "current"]
    assert Bundle.open(tmp_path / "tiny" / "current").version == "tiny/1"


def test_a_failing_rewrite_keeps_the_old_version(tmp_path: Path) -> None:
    link = write_tiny_bundle(tmp_path, "1")
    with pytest.raises(RuntimeError):
        write_and_fail(tmp_path, "1")
    assert len(Bundle.open(link).catalog) == ITEMS


def test_a_kill_in_the_middle_leaves_no_bundle(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, pathlib\n"
        "from core.bundle import write_bundle\n"
        "from tests.tiny_bundle import manifest, write_files\n"
        "with write_bundle(pathlib.Path(sys.argv[1]), manifest('2')) as directory:\n"
        "    write_files(directory)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=REPOSITORY, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert visible(tmp_path) == []
    assert versions(tmp_path) == []
    write_tiny_bundle(tmp_path, "2")  # and the leftovers are in nobody's way
    assert visible(tmp_path) == ["2", "current"]


def test_the_link_follows_the_newest(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path, "1")
    link = write_tiny_bundle(tmp_path, "2")
    assert Bundle.open(link).version == "tiny/2"
    assert [path.name for path in versions(tmp_path)] == ["1", "2"]


def test_rewriting_a_version_replaces_it(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path, "1", users=3)
    write_tiny_bundle(tmp_path, "1", metrics={"rows": []})
    assert Bundle.open(tmp_path / "tiny" / "1").manifest.metrics == {"rows": []}


def flip_a_byte(path: Path) -> None:
    content = bytearray((path / "histories_items.npy").read_bytes())
    content[-1] ^= 1
    (path / "histories_items.npy").write_bytes(bytes(content))


def truncate(path: Path) -> None:
    os.truncate(path / "catalog.jsonl", 10)


def remove(path: Path) -> None:
    (path / "users.json").unlink()


def edit_manifest(**changes: object) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        file = path / "manifest.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return edit


def escape(path: Path) -> None:
    (path.parent / "secret").write_text("x")
    file = path / "manifest.json"
    document = json.loads(file.read_text())
    document["files"]["../secret"] = {"sha256": "0" * 64, "bytes": 1}
    file.write_text(json.dumps(document))


def escape_by_link(path: Path) -> None:
    outside = path.parent / "outside.json"
    (path / "users.json").rename(outside)
    (path / "users.json").symlink_to(outside)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_byte, "histories_items.npy is not the file"),
        (truncate, "catalog.jsonl is not the file"),
        (remove, "users.json is missing"),
        (escape, "outside of it: ../secret"),
        (escape_by_link, "outside of it: users.json"),
        (edit_manifest(schema_version=99), "schema version 99"),
        (edit_manifest(surprise=1), "surprise"),
        (edit_manifest(items="many"), "items"),
        (lambda path: (path / "manifest.json").write_text("{"), "not a manifest"),
        (lambda path: (path / "manifest.json").write_bytes(b"\xff"), "not a manifest"),
        (lambda path: (path / "manifest.json").unlink(), "tandem build"),
    ],
)
def test_a_damaged_bundle_is_refused(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    path = write_tiny_bundle(tmp_path).resolve()
    damage(path)
    with pytest.raises(BundleError, match=message):
        Bundle.open(path)


def test_a_missing_part_says_how_to_get_it(tmp_path: Path) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    with pytest.raises(BundleError, match=r"no generate\.onnx; rebuild it"):
        bundle.file("generate.onnx")


def test_arrays_have_the_type_that_is_expected(tmp_path: Path) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    with pytest.raises(BundleError, match="holds int64, not int32"):
        bundle.array("histories_indptr", np.int32)


def test_pickles_are_refused(tmp_path: Path) -> None:
    with write_bundle(tmp_path, manifest()) as directory:
        write_files(directory)
        np.save(directory / "evil.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(BundleError, match="plain array"):
        Bundle.open(tmp_path / "tiny" / "1").array("evil", np.int32)


def test_catalog_and_manifest_agree(tmp_path: Path) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path, items=ITEMS + 1))
    with pytest.raises(BundleError, match=f"{ITEMS} items, the manifest {ITEMS + 1}"):
        _ = bundle.catalog


@pytest.mark.parametrize(
    "line",
    [
        '{"item_id": "x"}',
        "[]",
        "not json",
        '{"item_id": "x", "title": "", "text": "", "attributes": {"a": [null]}, "popularity": 1}',
    ],
)
def test_a_broken_catalog_line_is_named(tmp_path: Path, line: str) -> None:
    with write_bundle(tmp_path, manifest()) as directory:
        write_files(directory)
        with (directory / "catalog.jsonl").open("a") as file:
            file.write(line + "\n")
    with pytest.raises(BundleError, match=f"line {ITEMS + 1}"):
        _ = Bundle.open(tmp_path / "tiny" / "1").catalog


@pytest.mark.parametrize(
    "users", ['{"a": 1}', '["ann", "ann", "bob"]', '["ann"]', "nonsense", "[1, 2, 3]"]
)
def test_users_that_do_not_match_the_histories_are_refused(tmp_path: Path, users: str) -> None:
    with write_bundle(tmp_path, manifest()) as directory:
        write_files(directory)
        (directory / "users.json").write_text(users)
    with pytest.raises(BundleError, match="users"):
        _ = Bundle.open(tmp_path / "tiny" / "1").histories


@pytest.mark.parametrize("positions", [[0, 1, 2, ITEMS], [0, 1, 2, -1], [0, 1]])
def test_histories_of_items_that_are_not_there_are_refused(
    tmp_path: Path, positions: list[int]
) -> None:
    with write_bundle(tmp_path, manifest()) as directory:
        write_files(directory)
        np.save(directory / "histories_items.npy", np.array(positions, np.int32))
    with pytest.raises(BundleError, match="histories"):
        _ = Bundle.open(tmp_path / "tiny" / "1").histories


def with_times(root: Path, times: NDArray[Any]) -> Bundle:
    with write_bundle(root, manifest()) as directory:
        write_files(directory)  # ann has three items, bob one, cid none
        np.save(directory / "histories_times.npy", times)
    return Bundle.open(root / "tiny" / "1")


def test_a_bundle_says_when_its_interactions_were(tmp_path: Path) -> None:
    histories = with_times(tmp_path, np.array([5, 5, 9, 0], np.int64)).histories
    found = {
        user: times.tolist()
        for user in HISTORIES
        if (times := histories.times_of(user)) is not None
    }
    assert found == {"ann": [5, 5, 9], "bob": [0], "cid": []}
    assert histories.times_of("nobody") is None


def test_a_bundle_without_times_has_none(tmp_path: Path) -> None:
    histories = Bundle.open(write_tiny_bundle(tmp_path)).histories
    assert histories.times is None
    assert histories.times_of("ann") is None


@pytest.mark.parametrize("times", [[5, 4, 9, 0], [-1, 5, 9, 0], [5, 5, 9], [5, 5, 9, 0, 0]])
def test_times_that_do_not_fit_the_histories_are_refused(tmp_path: Path, times: list[int]) -> None:
    with pytest.raises(BundleError, match="histories_times"):
        _ = with_times(tmp_path, np.array(times, np.int64)).histories


@pytest.mark.parametrize("field", ["name", "version"])
@pytest.mark.parametrize("value", ["..", "a/b", "", ".hidden", "x" * 101])
def test_names_and_versions_stay_within_the_root(field: str, value: str) -> None:
    with pytest.raises(ValidationError, match=field):
        manifest(**{field: value})


def test_a_manifest_names_a_store_only_where_there_is_one() -> None:
    without = manifest()
    assert "store" not in json.loads(without.model_dump_json())  # an older Tandem refuses the name
    assert Manifest.model_validate_json(without.model_dump_json()) == without
    taken = without.model_copy(update={"store": StoreSection(id="a", sequence=7)})
    assert json.loads(taken.model_dump_json())["store"] == {"id": "a", "sequence": 7}
    assert Manifest.model_validate_json(taken.model_dump_json()) == taken

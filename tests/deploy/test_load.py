"""The load on a running stack: its request data, its runner, and the real ghz where it is."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from google.protobuf import json_format

from bench import load
from bench.lib.ghz import INSTALL, GhzError, Load, NoCallError, Run, find_ghz, run_ghz
from bench.lib.report import run as run_command
from bench.lib.requests import load_requests, write
from core.bundle import Bundle
from tandem.requests import StrategyName
from tandem.v1 import recommendation_service_pb2 as pb
from tests.deploy.dockerfile import REPOSITORY
from tests.processes import Server, servers
from tests.tiny_bundle import write_tiny_bundle

CONFIGS = sorted((REPOSITORY / "deploy" / "ghz").glob("*.json"))
REPORT = Path(__file__).parent / "ghz_report.json"
"""Written by ghz v0.120.0 for three users of whom the server knew two; details cut."""

FAKE_GHZ = f"""#!{sys.executable}
import json, os, pathlib, sys
config = json.loads(pathlib.Path(sys.argv[sys.argv.index("--config") + 1]).read_text())
report = json.loads(pathlib.Path({str(REPORT)!r}).read_text())
report["name"] = config["name"]
if not os.environ.get("FAKE_FAILURES"):
    report["statusCodeDistribution"] = {{"OK": report["count"]}}
asked = sys.argv[sys.argv.index("--duration") + 1] if "--duration" in sys.argv else ""
with open("asked", "a") as file:
    file.write(asked + " ")
pathlib.Path("config").write_text(json.dumps(config))
if asked == "1.0s" and os.environ.get("FAKE_CONNECTING"):
    sys.exit("panic: send on closed channel")
if float(asked.rstrip("s") or 0) < float(os.environ.get("FAKE_CONNECTING", -1)):
    report["count"] = 0
pathlib.Path(sys.argv[sys.argv.index("--output") + 1]).write_text(json.dumps(report))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in that looks like the repository."""
    for name in ("deploy", "protos"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(load, "WARM_UP_SECONDS", 0.2)
    return tmp_path


def called(*arguments: object) -> int:
    """The exit code of `python -m bench.load` with these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["bench.load", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run_command(load.main)
    return int(ended.value.code or 0)


class TestConfigurations:
    def test_there_is_one_for_each_strategy_and_for_similar_items(self, bundle: Path) -> None:
        names = {config.stem for config in CONFIGS}
        assert names == set(load_requests(Bundle.open(bundle)))
        strategies = get_args(StrategyName)
        assert names == {*(f"recommend-{strategy}" for strategy in strategies), "similar-items"}

    @pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
    def test_they_differ_in_what_they_call_alone(self, config: Path) -> None:
        document = json.loads(config.read_text(encoding="utf-8"))
        assert document.pop("name") == config.stem
        assert document.pop("data-file") == f"build/load/{config.stem}.json"
        method = document.pop("call").removeprefix("tandem.v1.RecommendationService.")
        service = pb.DESCRIPTOR.services_by_name["RecommendationService"]
        assert method in service.methods_by_name
        assert method == ("SimilarItems" if config.stem == "similar-items" else "Recommend")
        assert document == {
            "proto": "protos/tandem/v1/recommendation_service.proto",
            "import-paths": ["protos", "protos/third_party"],
            "host": "127.0.0.1:50050",
            "insecure": True,
            "concurrency": 32,
            "connections": 8,
            "duration": "10s",
            "duration-stop": "wait",
            "timeout": "5s",
            "count-errors": True,
        }


class TestRequestData:
    def test_users_with_a_history_rotate(self, bundle: Path) -> None:
        requests = load_requests(Bundle.open(bundle), max_results=7)
        messages = [_parse(r, pb.RecommendRequest()) for r in requests["recommend-fuse"]]
        assert [message.user_id for message in messages] == ["ann", "bob"]
        assert {message.strategy for message in messages} == {pb.STRATEGY_FUSE}
        assert {message.max_results for message in messages} == {7}

    def test_similar_items_asks_for_what_users_saw_last(self, bundle: Path) -> None:
        requests = load_requests(Bundle.open(bundle))["similar-items"]
        messages = [_parse(request, pb.SimilarItemsRequest()) for request in requests]
        assert [list(message.query.items.item_ids) for message in messages] == [["i2"], ["i5"]]

    def test_large_data_is_thinned_out_evenly(
        self, bundle: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bench.lib.requests.MAX_USERS", 1)
        assert [r["user_id"] for r in load_requests(Bundle.open(bundle))["recommend-fuse"]] == [
            "ann"
        ]

    def test_a_degraded_answer_counts_as_a_failure(self, bundle: Path) -> None:
        requests = load_requests(Bundle.open(bundle))
        for name in requests.keys() - {"similar-items"}:
            messages = [_parse(request, pb.RecommendRequest()) for request in requests[name]]
            assert all(message.forbid_degraded for message in messages)

    def test_a_file_is_written_for_each(self, bundle: Path, checkout: Path) -> None:
        assert called("--bundle", bundle, "--requests-only") == 0
        files = (checkout / "build/load").glob("*.json")
        read = {path.stem: json.loads(path.read_text()) for path in files}
        assert read == load_requests(Bundle.open(bundle))


class TestReport:
    def test_it_is_read_as_ghz_writes_it(self) -> None:
        run = Run.of_report(json.loads(REPORT.read_text(encoding="utf-8")))
        assert (run.name, run.callers, run.calls) == ("recommend-rerank", 32, 777)
        assert run.calls_per_second == pytest.approx(750.9, abs=0.05)
        assert (run.p50, run.p95, run.p99) == pytest.approx((47.578, 63.364, 66.464), abs=1e-3)
        assert run.failed == {"NotFound": 259}
        assert run.figures()["recommend-rerank/errors"] == 259

    def test_failures_of_the_warm_up_count(self) -> None:
        run = Run("a", 1, 10, 1.0, 1.0, 1.0, 1.0, {"NotFound": 1})
        warm_up = Run("a", 1, 10, 9.0, 9.0, 9.0, 9.0, {"NotFound": 2, "Unavailable": 3})
        both = run.with_failures_of(warm_up)
        assert both.failed == {"NotFound": 3, "Unavailable": 3}
        assert both.p99 == run.p99

    def test_one_without_calls_is_no_result(self) -> None:
        with pytest.raises(GhzError, match="no call was made"):
            Run.of_report({"name": "a", "count": 0})


class TestRunner:
    @pytest.fixture(autouse=True)
    def fake_ghz(self, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program = checkout / "bin" / "ghz"
        program.parent.mkdir()
        program.write_text(FAKE_GHZ, encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent))

    def test_it_prints_a_table_and_writes_the_figures(
        self, bundle: Path, checkout: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert called("--bundle", bundle, "--address", "127.0.0.1:1") == 0
        rows = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert ["`recommend-fuse`", "750.9", "47.6", "63.4", "66.5", "777", "none"] in rows
        document = json.loads((checkout / "build/bench/load.json").read_text(encoding="utf-8"))
        assert document.pop("environment")["bundle"] == "tiny/1"
        assert document["similar-items/p99_ms"] == 66.46
        assert len(document.pop("table")) == 1 + len(CONFIGS)
        assert {name.partition("/")[0] for name in document} == {c.stem for c in CONFIGS}

    def test_a_failed_call_is_a_failure(
        self, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("FAKE_FAILURES", "1")
        assert called("--bundle", bundle, "--address", "127.0.0.1:1") == 1
        assert "518 NotFound" in capsys.readouterr().out  # the warm-up's and the run's

    def test_time_that_connecting_took_is_given_again(
        self, checkout: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """ghz's duration begins before it connects, which takes long on a busy machine."""
        monkeypatch.setenv("FAKE_CONNECTING", "3")
        run = run_ghz(find_ghz(), CONFIGS[0], "127.0.0.1:1", 0.5)
        assert run.calls == 777
        asked = (checkout / "asked").read_text(encoding="utf-8").split()
        assert asked == ["0.5s", "1.0s", "2.0s", "4.0s"]

    def test_it_gives_up_on_one_that_never_calls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FAKE_CONNECTING", "1000000")
        with pytest.raises(NoCallError, match="no call was made"):
            run_ghz(find_ghz(), CONFIGS[0], "127.0.0.1:1", 30.0)

    def test_an_open_loop_makes_so_many_calls(
        self, checkout: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        load = Load("tandem.v1.RecommendationService.Recommend", Path("x"), 0.5, rate=300)
        monkeypatch.setenv("FAKE_CONNECTING", "1000000")
        with pytest.raises(NoCallError):
            load.run("127.0.0.1:1")
        config = json.loads((checkout / "config").read_text(encoding="utf-8"))
        assert (config["total"], config["rps"], config["async"]) == (150, 300, True)
        assert not (checkout / "asked").read_text(encoding="utf-8").split()

    def test_without_ghz_it_says_how_to_get_it(
        self, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("bench.lib.ghz.shutil.which", _only_go)
        monkeypatch.setattr("bench.lib.ghz._go_bin", lambda: "")
        assert called("--bundle", bundle) == 1
        assert INSTALL in capsys.readouterr().err

    @pytest.mark.slow
    def test_services_that_do_not_start_are_an_error(
        self, bundle: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        # A tiny bundle has no models: the candidate service refuses it.
        assert called("--bundle", bundle) == 1
        errors = capfd.readouterr().err
        assert "rebuild it" in errors
        assert "the services did not start; their log is above" in errors


@pytest.fixture(scope="module")
def ghz() -> Path:
    try:
        return find_ghz()
    except GhzError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def address(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real gateway in front of fake services."""
    directory = tmp_path_factory.mktemp("servers")
    flags: dict[str, object] = {"bundle": bundle}
    fakes = [
        Server(name, ["tests.gateway.fake_process", name], directory, flags)
        for name in ("candidate", "generator")
    ]
    with servers(*fakes):
        targets: dict[str, object] = {
            f"{fake.name}-target": fake.start().wait_serving().address for fake in fakes
        }
        module = ["cli.main", "serve", "gateway"]
        gateway = Server("gateway", module, directory, flags | targets | {"history": "bundle"})
        with servers(gateway):
            yield gateway.start().wait_serving().address


class TestWithGhz:
    @pytest.mark.slow
    @pytest.mark.usefixtures("ghz")
    def test_every_configuration_runs_without_an_error(
        self, address: str, bundle: Path, checkout: Path
    ) -> None:
        assert called("--bundle", bundle, "--address", address, "--seconds", "0.5") == 0
        document = json.loads((checkout / "build/bench/load.json").read_text(encoding="utf-8"))
        for config in CONFIGS:
            assert document[f"{config.stem}/calls"] >= 32
            assert document[f"{config.stem}/errors"] == 0

    @pytest.mark.slow
    @pytest.mark.usefixtures("checkout")
    def test_failures_are_counted_by_code(self, ghz: Path, address: str, bundle: Path) -> None:
        requests = load_requests(Bundle.open(bundle))
        requests["recommend-rerank"][1]["user_id"] = "nobody"
        write("recommend-rerank", requests["recommend-rerank"])
        run = run_ghz(ghz, Path("deploy/ghz/recommend-rerank.json"), address, 0.5)
        assert set(run.failed) == {"NotFound"}
        assert 0 < run.failed["NotFound"] < run.calls

    def test_what_it_cannot_run_is_an_error(self, ghz: Path, tmp_path: Path) -> None:
        config = tmp_path / "broken.json"
        config.write_text('{"call": "a.B.C", "proto": "absent.proto"}', encoding="utf-8")
        with pytest.raises(GhzError, match=r"ghz cannot run .*broken\.json"):
            run_ghz(ghz, config, "127.0.0.1:1", 0.1)


def _parse(request: dict[str, Any], message: Any) -> Any:
    return json_format.ParseDict(request, message)


def _only_go(name: str, path: str | None = None) -> str | None:
    return os.devnull if name == "go" and path is None else None

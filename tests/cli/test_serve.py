"""`tandem serve`: an option for every setting, and what `all` tells each of the three."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

import cli.serve.all
from cli.serve import app
from cli.serve.all import DECIDED, KINDS, StackSettings
from console.settings import ConsoleSettings
from core.errors import SettingsError
from serving.settings import (
    ServerSettings,
    default_of,
    flag_of,
    flags_of,
    load_settings,
    variable_of,
)
from tests.cli.command import run
from tests.tiny_bundle import write_tiny_bundle


def options(process: str) -> dict[str, Any]:
    """The options of `tandem serve PROCESS`, by the names of their settings."""
    group: Any = typer.main.get_command(app)
    command = group.get_command(typer.Context(group, info_name="serve"), process)
    return {option.name: option for option in command.params}


@pytest.mark.parametrize("process", KINDS)
def test_every_setting_is_an_option_with_help(process: str) -> None:
    fields = flags_of(KINDS[process])
    found = options(process)
    assert found.keys() == fields.keys()
    for name, option in found.items():
        assert flag_of(name) in option.opts
        assert str(fields[name].description) in option.help.replace("\\[", "[")
        assert default_of(fields[name]) in option.help


def _read(
    kind: type[ServerSettings], variables: dict[str, str], known: dict[str, Path], name: str
) -> str:
    """What a setting is, or what is wrong with it."""
    try:
        return str(getattr(load_settings(kind, variables, **known), name))
    except SettingsError as error:
        return error.message


@pytest.mark.parametrize("process", KINDS)
def test_every_setting_has_a_variable_and_a_key(process: str, tmp_path: Path) -> None:
    """Each is told something impossible, by both: whoever complains of it has read it."""
    kind, bundle = KINDS[process], write_tiny_bundle(tmp_path)
    file = tmp_path / "tandem.toml"
    for name in flags_of(kind).keys() - {"config"}:
        known = {} if name == "bundle" else {"bundle": bundle}
        variable, text = variable_of(name), "impossible, unless it is a text"
        assert _read(kind, {variable: text}, known, name).startswith((f"{variable}: ", text))
        for table, key in (("", name), (f"[{kind.table}]\n", f"{kind.table}.{name}")):
            if not table and name not in ServerSettings.model_fields:
                continue
            file.write_text(f"{table}{name} = [[]]")
            with pytest.raises(SettingsError, match=f"^{key} in .*tandem.toml: "):
                load_settings(kind, {}, config=file, **known)


def test_all_has_the_options_of_each() -> None:
    settings = {name for kind in KINDS.values() for name in flags_of(kind)}
    assert options("all").keys() == settings - DECIDED | {
        "candidate_port",
        "generator_port",
        "console_port",
    }
    assert settings < StackSettings.model_fields.keys()


class Started:
    """Takes what would be supervised, and asks for the commands as if all had started."""

    def __init__(self) -> None:
        self.host = ""
        self.settings: dict[str, ServerSettings] = {}
        self.console: ConsoleSettings | None = None

    async def supervise(
        self,
        services: Mapping[str, Any],
        gateway: Any,
        *,
        host: str,
        after: Mapping[str, Any],
        **_: object,
    ) -> None:
        self.host = host
        addresses: dict[str, str] = {}
        for process, launch in {**services, "gateway": gateway}.items():
            self.settings[process] = read_command(launch(addresses))
            addresses[process] = f"{host}:{self.settings[process].port}"
        for launch in after.values():
            self.console = read_console(launch(addresses))


def read_command(command: list[str]) -> ServerSettings:
    """The settings that the process of a command line would have."""
    process, *flags = command[command.index("serve") + 1 :]
    kind = options(process)
    given: dict[str, object] = {}
    for flag in flags:
        name, _, value = flag.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        given |= {name: value} if value else {name.removeprefix("no_"): not name.startswith("no_")}
    assert given.keys() <= kind.keys()
    return load_settings(KINDS[process], **given)


def read_console(command: list[str]) -> ConsoleSettings:
    """The same of a console's."""
    flags = [flag.removeprefix("--").split("=") for flag in command[command.index("console") + 1 :]]
    return load_settings(ConsoleSettings, **{name.replace("-", "_"): v for name, v in flags})


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    started = Started()
    monkeypatch.setattr(cli.serve.all, "supervise", started.supervise)
    return started


def test_all_tells_each_what_is_its_own(
    started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANDEM_PORT", "7000")
    monkeypatch.setenv("TANDEM_GENERATOR_PORT", "7002")
    monkeypatch.setenv("TANDEM_CANDIDATE_TARGET", "elsewhere:1")
    file = tmp_path / "tandem.toml"
    file.write_text("[candidate]\nport = 7001\nthreads = 1\n[generator]\nport = 1\nmax_batch = 4\n")
    arguments = ["--bundle", write_tiny_bundle(tmp_path), "--config", file, "--store", "s.db"]
    result = run("serve", "all", *map(str, arguments), "--no-log-json", "--max-in-flight", "3")
    assert result == type(result)(0, "", "")
    told = {process: settings.model_dump() for process, settings in started.settings.items()}
    assert {process: its["port"] for process, its in told.items()} == {
        "candidate": 7001,
        "generator": 7002,
        "gateway": 7000,
    }
    assert told["candidate"]["store"] == Path("s.db")
    assert told["candidate"]["threads"] == 1
    assert told["generator"]["max_batch"] == 4
    assert told["generator"]["catalog"] == "127.0.0.1:7001"
    assert told["gateway"]["candidate_target"] == "127.0.0.1:7001"
    assert told["gateway"]["generator_target"] == "127.0.0.1:7002"
    assert told["gateway"]["max_in_flight"] == 3
    assert all(its["log_json"] is False for its in told.values())


def test_all_tells_a_console_where_the_others_are(started: Started, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path)
    assert run("serve", "all", "--bundle", str(bundle)).code == 0
    assert started.console is None
    given = ["--console-port", "7003", "--metrics-port", "9464", "--candidate-port", "7001"]
    assert run("serve", "all", "--bundle", str(bundle), *given).code == 0
    console = started.console
    assert console is not None
    assert console.port == 7003
    assert console.targets == {
        "gateway": "127.0.0.1:50050",
        "candidate": "127.0.0.1:7001",
        "generator": "127.0.0.1:50052",
    }
    assert console.metrics == "127.0.0.1:9464,127.0.0.1:9465,127.0.0.1:9466"
    assert console.bundles == tmp_path


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--metrics-port", "9464"], [9465, 9466, 9464]),
        (["--metrics-port", "0"], [0, 0, 0]),
        ([], [None, None, None]),
    ],
)
def test_all_shows_metrics_on_ports_side_by_side(
    started: Started, tmp_path: Path, given: list[str], expected: list[int | None]
) -> None:
    bundle = write_tiny_bundle(tmp_path)
    assert run("serve", "all", "--bundle", str(bundle), *given).code == 0
    ports = [started.settings[p].metrics_port for p in ("candidate", "generator", "gateway")]
    assert ports == expected


@pytest.mark.parametrize(
    ("flags", "document", "message"),
    [
        (["--generator-port", "70000"], "", "--generator-port: input should be less"),
        (
            [],
            "[generator]\nmax_bach = 1",
            "'generator.max_bach'; the nearest is 'generator.max_batch",
        ),
        ([], "[gateway]\nmax_batch = 1", "unknown key 'gateway.max_batch'"),
        ([], "[candidate]\nport = -1", "candidate.port in"),
    ],
)
def test_all_checks_the_settings_of_each_first(
    started: Started, tmp_path: Path, flags: list[str], document: str, message: str
) -> None:
    file = tmp_path / "tandem.toml"
    file.write_text(document)
    bundle = write_tiny_bundle(tmp_path)
    result = run("serve", "all", "--bundle", str(bundle), "--config", str(file), *flags)
    assert result.code == 1
    assert message in result.stderr
    assert not started.settings


def test_settings_load_no_engine() -> None:
    """The supervisor checks the settings of all servers, and runs none of them."""
    code = "import cli.serve.all, sys; print(sorted({'faiss', 'onnxruntime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

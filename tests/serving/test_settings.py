"""Flags win over variables, these over a file, that over defaults; mistakes say where they are."""

from pathlib import Path

import pytest

from core.errors import SettingsError
from serving.settings import ServerSettings, default_of, load_settings
from tests.tiny_bundle import write_tiny_bundle


class ShopSettings(ServerSettings):
    table = "gateway"

    history: str | None = None
    max_wait_ms: float = 100.0


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path)


def test_precedence(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_PORT", "1111")
    monkeypatch.setenv("TANDEM_THREADS", "3")
    settings = load_settings(ServerSettings, bundle=bundle, port=2222, threads=None)
    assert settings.port == 2222
    assert settings.threads == settings.compute_threads == 3
    assert settings.drain_seconds == 10.0


def test_the_environment_is_enough(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_BUNDLE", str(bundle))
    monkeypatch.setenv("TANDEM_LOG_JSON", "true")
    settings = load_settings(ServerSettings)
    assert settings.bundle == bundle
    assert settings.log_json is True
    assert settings.compute_threads >= 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"bundle": None}, r"--bundle \(or TANDEM_BUNDLE\) is required"),
        ({"bundle": "/nowhere"}, r"/nowhere is not a bundle; make one with `tandem build`"),
        ({"port": 70_000}, r"--port: input should be less.*65535, got 70000"),
        ({"port": "http"}, r"--port: .*integer.*got 'http'"),
        ({"threads": -1}, r"--threads: .*greater than or equal to 0, got -1"),
        ({"log_level": "loud"}, r"--log-level: .*'debug'.*got 'loud'"),
        ({"drain_seconds": "nan"}, r"--drain-seconds"),
    ],
)
def test_mistakes_name_the_flag(bundle: Path, flags: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(ServerSettings, **{"bundle": bundle, **flags})


def test_every_mistake_is_named_at_once(bundle: Path) -> None:
    with pytest.raises(SettingsError, match=r"--port.*; --threads"):
        load_settings(ServerSettings, bundle=bundle, port=-1, threads=-1)


def write(tmp_path: Path, document: str) -> Path:
    path = tmp_path / "tandem.toml"
    path.write_text(document)
    return path


def test_a_file_comes_after_variables_and_its_own_table_before_the_rest(
    bundle: Path, tmp_path: Path
) -> None:
    file = write(
        tmp_path,
        f"""
        bundle = "{bundle}"
        port = 1
        threads = 1
        drain_seconds = 1
        host = "::1"

        [gateway]
        threads = 2
        drain_seconds = 2
        history = "a.sqlite"

        [generator]
        threads = 9
        whatever = "is checked by the generator"
        """,
    )
    variables = {"TANDEM_CONFIG": str(file), "TANDEM_DRAIN_SECONDS": "3", "TANDEM_PORT": "3"}
    settings = load_settings(ShopSettings, variables, port=4)
    assert settings.port == 4
    assert settings.drain_seconds == 3
    assert settings.threads == 2
    assert (settings.host, settings.history, settings.max_wait_ms) == ("::1", "a.sqlite", 100.0)
    assert settings.config == file


def test_the_flag_names_the_file_before_the_variable_does(bundle: Path, tmp_path: Path) -> None:
    file = write(tmp_path, "port = 5")
    settings = load_settings(
        ServerSettings, {"TANDEM_CONFIG": "/nowhere"}, config=file, bundle=bundle
    )
    assert settings.port == 5


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("histroy = 'x'", "unknown key 'histroy'; the nearest is 'gateway.history'"),
        ("history = 'x'", "unknown key 'history'; the nearest is 'gateway.history'"),
        ("drain_second = 1", "unknown key 'drain_second'; the nearest is 'drain_seconds'"),
        ("[gateway]\nmaxwait_ms = 1", "'gateway.maxwait_ms'; the nearest is 'gateway.max_wait_ms'"),
        ("[gatway]\nhistory = 'x'", "unknown table 'gatway'; the nearest is 'gateway'"),
        ("config = 'other.toml'", "unknown key 'config'"),
        ("port = 70000", r"port in .*tandem.toml: input should be less.*got 70000"),
        ("[gateway]\nhistory = 3", r"gateway.history in .*tandem.toml: .*string, got 3"),
        ("port = ", r"tandem.toml is not a TOML file: "),
    ],
)
def test_mistakes_in_a_file_say_where_they_are(
    bundle: Path, tmp_path: Path, document: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(ShopSettings, bundle=bundle, config=write(tmp_path, document))


@pytest.mark.parametrize("name", ["none.toml", "."])
def test_a_file_that_cannot_be_read_is_named(bundle: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=f"cannot read the settings in {tmp_path / name}: "):
        load_settings(ServerSettings, bundle=bundle, config=tmp_path / name)


def test_a_mistake_in_a_variable_names_it(bundle: Path) -> None:
    with pytest.raises(SettingsError, match=r"^TANDEM_PORT: .*integer.*got 'http'$"):
        load_settings(ServerSettings, {"TANDEM_PORT": "http"}, bundle=bundle)


def test_an_empty_variable_is_as_good_as_none(bundle: Path) -> None:
    environment = {"TANDEM_HISTORY": "", "TANDEM_BUNDLE": str(bundle)}
    assert load_settings(ShopSettings, environment).history is None
    assert load_settings(ShopSettings, {"TANDEM_BUNDLE": ""}, bundle=bundle).bundle == bundle


def test_a_default_is_shown_as_one_would_write_it() -> None:
    fields = ServerSettings.model_fields
    shown = [default_of(fields[name]) for name in ("bundle", "log_json", "stop_on_eof", "threads")]
    assert shown == ["", "", "false", "0"]

"""Flags win over the environment, which wins over defaults; mistakes are named at start."""

from pathlib import Path

import pytest

from core.errors import SettingsError
from serving.settings import ServerSettings, load_settings
from tests.tiny_bundle import write_tiny_bundle


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
        ({"port": 70_000}, r"--port \(or TANDEM_PORT\): input should be less.*65535, got 70000"),
        ({"port": "http"}, r"--port .*integer.*got 'http'"),
        ({"threads": -1}, r"--threads .*greater than or equal to 0, got -1"),
        ({"log_level": "loud"}, r"--log-level \(or TANDEM_LOG_LEVEL\).*'debug'.*got 'loud'"),
        ({"drain_seconds": "nan"}, r"--drain-seconds"),
    ],
)
def test_mistakes_name_the_flag_and_the_variable(
    bundle: Path, flags: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(ServerSettings, **{"bundle": bundle, **flags})


def test_every_mistake_is_named_at_once(bundle: Path) -> None:
    with pytest.raises(SettingsError, match=r"--port.*; --threads"):
        load_settings(ServerSettings, bundle=bundle, port=-1, threads=-1)

"""Further bundles are tables of the file, whose mistakes say where they are."""

import re
from pathlib import Path

import pytest

from cli.serve.all import StackSettings
from core.errors import SettingsError
from gateway.domain import Strategy
from gateway.settings import GatewaySettings, NamedBundleSettings
from serving.settings import flags_of, load_settings
from tests.gateway.named.shops import write_shop
from tests.processes import REPOSITORY

TARGETS = 'candidate_target = "h:1"\ngenerator_target = "h:2"\n'


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_shop(tmp_path, "")


def load(tmp_path: Path, bundle: Path, tables: str, **flags: object) -> GatewaySettings:
    file = tmp_path / "tandem.toml"
    file.write_text(tables.replace("BUNDLE", f'bundle = "{bundle}"\n').replace("TARGETS", TARGETS))
    return load_settings(GatewaySettings, {}, config=file, bundle=bundle, **flags)


def test_a_table_is_a_bundle(tmp_path: Path, bundle: Path) -> None:
    settings = load(
        tmp_path,
        bundle,
        '[gateway]\nmax_in_flight = 5\nstrategy = "fuse"\n'
        '[gateway.bundles.shop-fr]\nBUNDLE TARGETS history = "fr.sqlite"\n'
        '[gateway.bundles."it"]\nBUNDLE TARGETS history = "it.sqlite"\nstrategy = "rerank"\n',
        history="own.sqlite",
        history_key_file="own.key",
    )
    own, french, italian = settings.of_bundles.values()
    assert list(settings.of_bundles) == ["", "shop-fr", "it"]
    assert (own.strategy, french.strategy, italian.strategy) == (
        Strategy.FUSE, None, Strategy.RERANK,
    )  # fmt: skip
    assert french.candidate_target == "h:1"
    assert [each.history for each in (own, french)] == ["own.sqlite", "fr.sqlite"]
    assert french.history_key_file is None, "of what a table can say, nothing is taken over"
    assert french.max_in_flight == 5, "all else is"


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ("BUNDLE", r"gateway.bundles in .*tandem.toml: fr: candidate_target: field required"),
        ("BUNDLE TARGETS histroy = 'x'", r"key of gateway.bundles.fr 'histroy'; .*'history'"),
        ("BUNDLE TARGETS strategy = 'best'", r"fr: strategy: .*'embedding'.*got 'best'"),
        ("bundle = 'nowhere'\nTARGETS", r"fr: bundle: nowhere is not a bundle; .*got .*nowhere"),
        ("BUNDLE candidate_target = ''\ngenerator_target = 'h:2'", r"fr: candidate_target: "),
    ],
)  # fmt: skip
def test_mistakes_in_a_table_say_where_they_are(
    tmp_path: Path, bundle: Path, tables: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        load(tmp_path, bundle, f"[gateway.bundles.fr]\n{tables}")


@pytest.mark.parametrize("name", ["", "a b", "ü", "x" * 65, "a\\n"])
def test_a_name_is_short_and_plain(tmp_path: Path, bundle: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=r"gateway.bundles in "):
        load(tmp_path, bundle, f'[gateway.bundles."{name}"]\nBUNDLE TARGETS')


@pytest.mark.parametrize("tables", ["bundles = 3", "bundles = {fr = 3}"])
def test_what_is_no_table_is_refused(tmp_path: Path, bundle: Path, tables: str) -> None:
    with pytest.raises(SettingsError, match=r"gateway.bundles in .*valid dictionary"):
        load(tmp_path, bundle, f"[gateway]\n{tables}")


def test_a_table_names_its_histories_where_the_gateway_does(tmp_path: Path, bundle: Path) -> None:
    table = "[gateway.bundles.fr]\nBUNDLE TARGETS"
    assert load(tmp_path, bundle, table).of_bundles["fr"].history is None
    with pytest.raises(SettingsError, match="fr: say where its histories are"):
        load(tmp_path, bundle, table, history="redis://h")


def test_every_key_of_a_table_is_explained() -> None:
    text = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
    section = text.partition("### Several bundles")[2].partition("## ")[0]
    explained = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert explained == list(NamedBundleSettings.model_fields)
    assert NamedBundleSettings.model_fields.keys() < GatewaySettings.model_fields.keys()


def test_tables_have_neither_flag_nor_variable(bundle: Path) -> None:
    assert "bundles" not in flags_of(StackSettings)
    settings = load_settings(GatewaySettings, {"TANDEM_BUNDLES": "{}"}, bundle=bundle)
    assert settings.bundles == {}

"""The serving file: what it says is what holds, and what makes no sense is named."""

from pathlib import Path

import pytest

from core.errors import SettingsError
from gateway.variants.file import read_plan, watch_plan
from tandem.v1 import recommendation_service_pb2 as pb

WHOLE = """
experiment = "spring"

[configs.home]
strategy = "STRATEGY_FUSE"
diversity = 0.3
item_fields = "title,attributes"
attribute_caps = [{attribute = "genre", max_items = 2}]
[configs.home.constraints.filter.one_of]
attribute = "year"
values = [{number = 1999}]
[[configs.home.boosts]]
boost = 0.5
condition = {equals = {attribute = "label", value = {text = "new"}}}

[variants.control]
percent = 90
[variants.next]
percent = 10
bundle_version = "shop/2"
strategy = "generate"
serving_config = "home"
[variants.next.canary]
max_bad_share = 0.05
"""


def test_a_whole_file_is_read() -> None:
    plan = read_plan(WHOLE.encode())
    assert plan.experiment == "spring"
    home = plan.configs["home"]
    assert (home.strategy, home.diversity) == (pb.STRATEGY_FUSE, 0.3)
    assert list(home.item_fields.paths) == ["title", "attributes"]
    assert home.constraints.filter.one_of.values[0].number == 1999
    control, chosen = plan.variants["control"], plan.variants["next"]
    assert (control.percent, control.bundle_version, control.limits) == (90, "", None)
    assert control.defaults == pb.RecommendRequest()
    assert (chosen.bundle_version, chosen.defaults.strategy) == ("shop/2", pb.STRATEGY_GENERATE)
    assert chosen.defaults.diversity == 0.3
    assert chosen.attributes == {"genre", "year", "label"}
    assert chosen.limits is not None
    assert (chosen.limits.max_bad_share, chosen.limits.max_latency_ratio) == (0.05, 1.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("experimnt = 'x'", "experimnt"),
        ("[variants.a]\npercent = 100\nbundel_version = 'x'", "variants.a.bundel_version"),
        (
            "[variants.a]\npercent = 100\n[variants.a.canary]\nmax_bad = 1",
            "variants.a.canary.max_bad",
        ),
        ("[configs.home]\ndiversty = 0.3", "configs.home: .*diversty"),
        ("[configs.home]\nstrategy = 'FASTEST'", "configs.home: .*FASTEST"),
        ("[configs.home]\nstrategy = 2020-01-01", "configs.home: "),
        ("[configs.home]\nconstraints = 3", "configs.home: "),
        ("[configs.home]\ndiversity = 1.5", "configs.home: diversity is 1.5"),
        ("[configs.home]\nmax_results = -1", "configs.home: max_results is -1"),
        ("[configs.home]\nuser_id = 'ann'", "configs.home: user_id"),
        ("[configs.home]\npage_size = 3", "configs.home: page_size"),
        ("[configs.home]\nvariant = 'next'", "configs.home: variant"),
        ("[configs.home]\nbundle = 'fr'", "configs.home: bundle is a call's own"),
        ("[configs.home]\nconstraints = {allowed_item_ids = ['i1']}", "allowed_item_ids"),
        ("[configs.home]\nconstraints = {filter = {}}", "configs.home: a filter needs a condition"),
        ("[configs.'a b']", "configs.a b"),
        ("[variants.a]\npercent = 60\n[variants.b]\npercent = 30", "add up to 90, not to 100"),
        ("[variants.a]\npercent = nan", "variants.a.percent"),
        ("[variants.a]\npercent = 100\nstrategy = 'best'", "variants.a.strategy"),
        (
            "[variants.a]\npercent = 100\nserving_config = 'x'",
            "variants.a.serving_config: .*configs.x",
        ),
        ("[variants.a]\npercent = 100\n[variants.a.canary]", "all are canaries"),
        (f"[variants.{'a' * 65}]\npercent = 100", "variants.aaa"),
        ("".join(f"[variants.v{n}]\npercent = 1\n" for n in range(33)), "variants: .*32"),
        ("[variants.a", "declared|Expected"),
        ("\x00", "Invalid"),
    ],
)
def test_what_makes_no_sense_is_named(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_plan(text.encode())


def test_a_file_without_variants_is_no_mistake() -> None:
    assert not read_plan(b"").variants
    assert read_plan(b"[configs.home]\ndiversity = 0.5").configs["home"].diversity == 0.5


def test_a_gateway_does_not_start_with_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "serving.toml"
    with pytest.raises(SettingsError, match=r"serving\.toml: No such file"):
        watch_plan(path)
    path.write_text("percents = 3", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"serving\.toml: percents"):
        watch_plan(path)

"""Callers in other languages retry and balance as the client for Python does."""

import json
from pathlib import Path

from tandem.channel import channel_options
from tests.deploy.dockerfile import REPOSITORY

EXAMPLES = REPOSITORY / "examples"


def read(path: Path) -> object:
    return json.loads(path.read_text(encoding="utf-8"))


def test_their_service_config_is_the_clients() -> None:
    options = dict(channel_options(["tandem.v1.RecommendationService"]))
    assert read(EXAMPLES / "service_config.json") == json.loads(str(options["grpc.service_config"]))


def test_the_copy_that_go_embeds_is_the_same() -> None:
    assert read(EXAMPLES / "go" / "service_config.json") == read(EXAMPLES / "service_config.json")

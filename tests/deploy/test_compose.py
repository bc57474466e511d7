"""deploy/compose.yaml, against the specification's schema and against the images."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.serve.all import KINDS as SETTINGS
from tests.cli.command import run
from tests.deploy.dockerfile import PROCESSES, REPOSITORY, exec_form, read_stages

COMPOSE = REPOSITORY / "deploy" / "compose.yaml"
VOLUMES = {"candidate": "catalog", "gateway": "history"}
"""What outlives the container of a process that keeps something."""


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    document = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    found: dict[str, dict[str, Any]] = document["services"]
    return found


def test_it_follows_the_specification() -> None:
    """check-jsonschema brings the specification's schema along: nothing is fetched."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, COMPOSE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_it_runs_the_three_processes(services: dict[str, dict[str, Any]]) -> None:
    always = {name for name in services if "profiles" not in services[name]}
    assert always == {*PROCESSES, "keys"}
    for process in PROCESSES:
        service = services[process]
        build = service["build"]
        assert (COMPOSE.parent / build["context"]).resolve() == REPOSITORY
        assert (REPOSITORY / build["dockerfile"]).is_file()
        assert build["dockerfile"] == f"deploy/{process}.Dockerfile"


def test_only_the_gateway_can_be_reached(services: dict[str, dict[str, Any]]) -> None:
    assert [name for name, service in services.items() if "ports" in service] == ["gateway"]
    (published,) = services["gateway"]["ports"]
    # Who has no key may ask for recommendations: whom that is published to is a choice, and by
    # default this machine.
    assert published == "${TANDEM_PUBLISH:-127.0.0.1:50050}:50050"
    assert services["candidate"]["networks"] == services["generator"]["networks"] == ["inside"]
    networks = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["networks"]
    assert networks["inside"]["internal"] is True


def test_the_gateway_waits_for_its_services(services: dict[str, dict[str, Any]]) -> None:
    condition = {"condition": "service_healthy"}
    assert services["gateway"]["depends_on"] == {
        "keys": {"condition": "service_completed_successfully"},
        "candidate": condition,
        "generator": condition,
    }


def test_the_volumes_are_declared(services: dict[str, dict[str, Any]]) -> None:
    declared = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["volumes"]
    mounted = [v for service in services.values() for v in service["volumes"]]
    assert {v["source"] for v in mounted if v["type"] == "volume"} == set(declared)


@pytest.mark.parametrize("process", PROCESSES)
class TestEveryService:
    def test_may_do_little(self, services: dict[str, dict[str, Any]], process: str) -> None:
        service = services[process]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not {"privileged", "cap_add", "user", "devices", "pid"} & set(service)
        bundles, keys, *others = service["volumes"]
        assert (bundles["target"], keys["target"]) == ("/bundles", "/keys")
        assert bundles["read_only"] is keys["read_only"] is True
        writable = [volume for volume in others if not volume.get("read_only")]
        kept = {"type": "volume", "source": VOLUMES.get(process), "target": "/var/lib/tandem"}
        assert writable == ([kept] if process in VOLUMES else [])

    def test_has_limits_and_comes_back(
        self, services: dict[str, dict[str, Any]], process: str
    ) -> None:
        service = services[process]
        assert service["restart"] == "unless-stopped"
        assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
        if process != "gateway":
            # As many threads as there is CPU time: a server cannot see this limit.
            assert service["environment"]["TANDEM_THREADS"] == str(service["cpus"])

    def test_is_stopped_gently(self, services: dict[str, dict[str, Any]], process: str) -> None:
        service = services[process]
        assert service["init"] is True
        grace = int(service["stop_grace_period"].removesuffix("s"))
        assert grace > float(service["environment"]["TANDEM_DRAIN_SECONDS"])

    def test_is_checked_as_its_image_is(
        self, services: dict[str, dict[str, Any]], process: str
    ) -> None:
        _, final = read_stages(process)
        check = final.only("HEALTHCHECK").partition("CMD ")[2]
        assert services[process]["healthcheck"]["test"] == ["CMD", *exec_form(check)]

    def test_is_told_what_its_settings_know(
        self, services: dict[str, dict[str, Any]], process: str
    ) -> None:
        known = {f"TANDEM_{name.upper()}" for name in SETTINGS[process].model_fields}
        known |= {"TANDEM_KEY_FILE"}  # what commands in the container read
        assert set(services[process]["environment"]) <= known
        assert all(isinstance(v, str) for v in services[process]["environment"].values())


def test_the_targets_are_where_the_services_listen(services: dict[str, dict[str, Any]]) -> None:
    environment = services["gateway"]["environment"]
    for process in ("candidate", "generator"):
        port = read_stages(process)[1].environment()["TANDEM_PORT"]
        assert environment[f"TANDEM_{process.upper()}_TARGET"] == f"dns:///{process}:{port}"


def test_the_generator_follows_the_candidate(services: dict[str, dict[str, Any]]) -> None:
    environment = read_stages("candidate")[1].environment()
    catalog = services["generator"]["environment"]["TANDEM_CATALOG"]
    assert catalog == f"candidate:{environment['TANDEM_PORT']}"
    # The store is in the volume, which outlives the container.
    (volume,) = (v for v in services["candidate"]["volumes"] if v["source"] == "catalog")
    assert Path(environment["TANDEM_STORE"]).parent == Path(volume["target"])


def test_histories_are_kept_in_a_volume(services: dict[str, dict[str, Any]]) -> None:
    _, final = read_stages("gateway")
    (target,) = (v["target"] for v in services["gateway"]["volumes"] if v["source"] == "history")
    assert final.only("VOLUME") == target
    default = services["gateway"]["environment"]["TANDEM_HISTORY"].partition(":-")[2].rstrip("}")
    assert default == final.environment()["TANDEM_HISTORY"] == f"{target}/history.sqlite"


def test_redis_keeps_what_it_acknowledges_and_may_do_little(
    services: dict[str, dict[str, Any]],
) -> None:
    redis = services["redis"]
    assert redis["profiles"] == ["redis"]
    assert redis["networks"] == ["inside"]
    assert redis["read_only"] is True
    assert redis["cap_drop"] == ["ALL"]
    command = redis["command"]
    for option, value in (("--appendonly", "yes"), ("--appendfsync", "always")):
        assert command[command.index(option) + 1] == value
    (volume,) = redis["volumes"]
    assert volume["target"] == "/data"


def test_its_keys_are_made_and_reach_who_needs_them(
    services: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    """What the first start runs is run here, in a folder in place of the volumes."""
    keys = services["keys"]
    assert keys["network_mode"] == "none"
    program, *arguments = keys["entrypoint"]
    assert program == "tandem"
    written = {v["source"]: tmp_path / v["source"] for v in keys["volumes"]}
    for volume in keys["volumes"]:
        written[volume["source"]].mkdir()
        arguments = [
            a.replace(volume["target"], str(tmp_path / volume["source"])) for a in arguments
        ]
    done = run(*arguments)
    assert done.code == 0, done.stderr
    made = {f"{v}/{file.name}" for v, folder in written.items() for file in folder.iterdir()}
    assert made == {"keys/keys.toml", "keys/service.key", "operator/operator.key"}
    told = {
        f"{name} {key}": value.strip("/")
        for name in PROCESSES
        for key, value in services[name]["environment"].items()
        if "KEY" in key and "HISTORY" not in key
    }
    assert told == {
        "candidate TANDEM_KEYS_FILE": "keys/keys.toml",
        "candidate TANDEM_KEY_FILE": "operator/operator.key",
        "generator TANDEM_KEYS_FILE": "keys/keys.toml",
        "generator TANDEM_SERVICE_KEY_FILE": "keys/service.key",
        "gateway TANDEM_KEYS_FILE": "keys/keys.toml",
        "gateway TANDEM_SERVICE_KEY_FILE": "keys/service.key",
    }
    # The operator's key is nowhere near those whom strangers talk to.
    mounted = {
        name: {v["source"] for v in services[name]["volumes"] if "source" in v}
        for name in PROCESSES
    }
    assert [name for name, volumes in mounted.items() if "operator" in volumes] == ["candidate"]


def test_what_makes_keys_may_do_little(services: dict[str, dict[str, Any]]) -> None:
    keys = services["keys"]
    assert keys["read_only"] is True
    assert keys["cap_drop"] == ["ALL"]
    assert keys["restart"] == "no"
    _, final = read_stages("gateway")
    assert keys["image"] == services["gateway"]["image"]
    # A new volume takes the owner of the folder in the image.
    (copied,) = (line for line in final.all("COPY") if "tandem-keys" in line)
    assert copied.startswith(f"--from=build --chown={final.only('USER')} ")
    assert all(v["target"].startswith("/var/lib/tandem-keys/") for v in keys["volumes"])

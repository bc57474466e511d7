"""deploy/compose.yaml, against the specification's schema and against the images."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.dockerfile import PROCESSES, REPOSITORY, exec_form, read_stages
from tests.deploy.settings_tables import PROCESSES as SETTINGS

COMPOSE = REPOSITORY / "deploy" / "compose.yaml"


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
    assert set(services) == set(PROCESSES)
    for process, service in services.items():
        build = service["build"]
        assert (COMPOSE.parent / build["context"]).resolve() == REPOSITORY
        assert (REPOSITORY / build["dockerfile"]).is_file()
        assert build["dockerfile"] == f"deploy/{process}.Dockerfile"


def test_only_the_gateway_can_be_reached(services: dict[str, dict[str, Any]]) -> None:
    assert [name for name, service in services.items() if "ports" in service] == ["gateway"]
    (published,) = services["gateway"]["ports"]
    # Nobody is authenticated: what is published is a choice, and by default this machine's own.
    assert published == "${TANDEM_PUBLISH:-127.0.0.1:50050}:50050"
    assert services["candidate"]["networks"] == services["generator"]["networks"] == ["inside"]
    networks = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["networks"]
    assert networks["inside"]["internal"] is True


def test_the_gateway_waits_for_its_services(services: dict[str, dict[str, Any]]) -> None:
    condition = {"condition": "service_healthy"}
    assert services["gateway"]["depends_on"] == {"candidate": condition, "generator": condition}


@pytest.mark.parametrize("process", PROCESSES)
class TestEveryService:
    def test_may_do_little(self, services: dict[str, dict[str, Any]], process: str) -> None:
        service = services[process]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not {"privileged", "cap_add", "user", "devices", "pid"} & set(service)
        bundles, *others = service["volumes"]
        assert bundles["target"] == "/bundles"
        assert bundles["read_only"] is True
        store = [{"type": "volume", "source": "catalog", "target": "/var/lib/tandem"}]
        assert others == (store if process == "candidate" else [])

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
    (volume,) = services["candidate"]["volumes"][1:]
    assert Path(environment["TANDEM_STORE"]).parent == Path(volume["target"])
    assert volume["source"] in yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["volumes"]

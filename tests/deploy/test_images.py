"""The images, as far as they can be checked where no container engine is."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cli.serve.all import KINDS as SETTINGS
from deploy.healthcheck import SECONDS
from tests.deploy.dockerfile import PROCESSES, REPOSITORY, dockerfile, exec_form, read_stages

OFFLINE_ONLY = ("torch", "transformers", "sklearn", "polars", "onnx", "offline")
PROBE = """
import importlib, importlib.util, sys
importlib.import_module("cli.main")
importlib.import_module(sys.argv[1])
present = [name for name in sys.argv[2].split(",") if importlib.util.find_spec(name)]
sys.exit(f"the image has {present}" if present else 0)
"""


@pytest.fixture(params=PROCESSES)
def process(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def program(name: str) -> str:
    """A program of this environment, whether or not it is activated."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found is not None, f"{name} is not installed; it comes with the extra `dev`"
    return found


def test_the_linter_is_content(process: str) -> None:
    done = subprocess.run(
        [program("hadolint"), dockerfile(process)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_stages_share_a_base_that_is_pinned_to_the_tested_python(process: str) -> None:
    build, final = read_stages(process)
    assert build.base == final.base
    tag = re.fullmatch(r"python:(\d+)\.(\d+)-slim-\w+", final.base)
    assert tag, final.base
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert f">={tag[1]}.{tag[2]}" == project["project"]["requires-python"]
    version = project["project"]["version"]
    assert f'image.version="{version}"' in final.only("LABEL")


def test_the_process_is_not_root_and_receives_signals_itself(process: str) -> None:
    _, final = read_stages(process)
    user, group = map(int, final.only("USER").split(":"))
    assert user > 0
    assert group > 0
    assert exec_form(final.only("ENTRYPOINT")) == ["tandem", "serve", process]
    assert not final.all("CMD")
    keywords = [keyword for keyword, _ in final.instructions]
    assert "RUN" not in keywords
    copies = [line for line in final.all("COPY") if line.startswith("--from=build")]
    assert copies.pop(0) == "--from=build /opt/tandem /opt/tandem"
    # What the process may write to is its own.
    folder = "/var/lib/tandem"
    folders = [folder] if final.all("VOLUME") == [folder] else []
    if process == "gateway":  # which makes the keys of an installation
        folders.append(f"{folder}-keys")
    assert copies == [f"--from=build --chown={user}:{group} {own} {own}" for own in folders]


def test_the_environment_is_one_that_the_settings_know(process: str) -> None:
    _, final = read_stages(process)
    environment = final.environment()
    names = {name for name in environment if name.startswith("TANDEM_")}
    assert names <= {f"TANDEM_{field.upper()}" for field in SETTINGS[process].model_fields}
    assert final.only("EXPOSE") == environment["TANDEM_PORT"]
    assert environment["TANDEM_HOST"] == "0.0.0.0"  # noqa: S104 - an address of the container
    assert Path(environment["TANDEM_BUNDLE"]).is_relative_to("/bundles")


def test_each_process_has_a_port_of_its_own() -> None:
    ports = [read_stages(process)[1].environment()["TANDEM_PORT"] for process in PROCESSES]
    assert ports == ["50051", "50052", "50050"]


def test_the_health_check_is_allowed_the_time_that_it_takes(process: str) -> None:
    _, final = read_stages(process)
    options, _, command = final.only("HEALTHCHECK").partition("CMD ")
    assert exec_form(command) == ["python", "/opt/tandem/healthcheck.py"]
    timeout = re.search(r"--timeout=(\d+)s", options)
    assert timeout
    assert int(timeout[1]) > SECONDS


def test_what_is_copied_exists_and_is_not_ignored(process: str) -> None:
    rules = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = [Path(rule.removeprefix("!")) for rule in rules if rule.startswith("!")]
    assert rules[1] == "*"
    for stage in read_stages(process):
        for sources, _ in stage.copied():
            for source in map(Path, sources):
                assert (REPOSITORY / source).exists()
                assert any(source.is_relative_to(path) for path in kept), source


@pytest.mark.slow
def test_what_an_image_installs_suffices_and_is_all_it_has(process: str, tmp_path: Path) -> None:
    """Does what the first stage does, in a folder that holds what it copies, then imports."""
    build, _ = read_stages(process)
    context, venv = tmp_path / "src", tmp_path / "venv"
    for sources, destination in build.copied():
        for source in sources:
            _copy(source, context, destination)
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    installs = [run.partition("/opt/tandem/bin/pip install ")[2] for run in build.all("RUN")[1:]]
    assert installs == ["--require-hashes -r requirements.txt", "--no-deps ./protos ."]
    for install in installs:
        _install(str(venv / "bin" / "python"), shlex.split(install), context)

    main = "gateway.main" if process == "gateway" else f"services.{process}.main"
    others = [other for other in ("gateway", "services") if not main.startswith(f"{other}.")]
    absent = ",".join((*OFFLINE_ONLY, *others))
    command = [str(venv / "bin" / "python"), "-I", "-W", "error", "-c", PROBE, main, absent]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    served = [str(venv / "bin" / "tandem"), "serve", process, "--help"]
    assert subprocess.run(served, capture_output=True, cwd=tmp_path, check=False).returncode == 0


def _copy(source: str, context: Path, name: str) -> None:
    """As COPY does: a folder's content into the destination, a file into or onto it."""
    path, destination = REPOSITORY / source, context / name
    if path.is_dir():
        shutil.copytree(path, destination, ignore=shutil.ignore_patterns("__pycache__"))
        return
    folder = destination if name.endswith("/") else destination.parent
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, destination)


def _install(python: str, arguments: list[str], context: Path) -> None:
    """With uv where it is, whose cache saves hundreds of megabytes of download; with pip else."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    command = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    done = subprocess.run(
        [*command, "--quiet", *arguments], cwd=context, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

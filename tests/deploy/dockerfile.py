"""Reading Dockerfiles, as far as the tests look at them."""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from string import Template

REPOSITORY = Path(__file__).parents[2]
PROCESSES = ("candidate", "generator", "gateway")


@dataclass(frozen=True)
class Stage:
    """One FROM and the instructions that follow it, as (keyword, arguments)."""

    base: str
    name: str
    instructions: tuple[tuple[str, str], ...]

    def all(self, keyword: str) -> list[str]:
        return [arguments for found, arguments in self.instructions if found == keyword]

    def only(self, keyword: str) -> str:
        (arguments,) = self.all(keyword)
        return arguments

    def environment(self) -> dict[str, str]:
        pairs = (pair for line in self.all("ENV") for pair in shlex.split(line))
        return dict(pair.split("=", 1) for pair in pairs)

    def copied(self) -> list[tuple[list[str], str]]:
        """What comes from the build context: sources and destination."""
        lines = [shlex.split(line) for line in self.all("COPY") if not line.startswith("--from=")]
        return [(line[:-1], line[-1]) for line in lines]


def read_stages(process: str) -> list[Stage]:
    text = dockerfile(process).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    stages: list[Stage] = []
    defaults: dict[str, str] = {}
    for line in filter(None, joined.splitlines()):
        keyword, _, arguments = line.partition(" ")
        if keyword == "FROM":
            base, _, name = arguments.partition(" AS ")
            stages.append(Stage(Template(base).substitute(defaults), name, ()))
        elif not stages:
            assert keyword == "ARG"
            name, _, defaults[name] = arguments.partition("=")
        else:
            last = stages.pop()
            found = (*last.instructions, (keyword, arguments.strip()))
            stages.append(Stage(last.base, last.name, found))
    return stages


def dockerfile(process: str) -> Path:
    return REPOSITORY / "deploy" / f"{process}.Dockerfile"


def exec_form(arguments: str) -> list[str]:
    """A command in exec form; ValueError for one that a shell would run."""
    command: list[str] = json.loads(arguments)
    return command

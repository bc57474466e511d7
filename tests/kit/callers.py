"""The examples, built where their toolchains are, and held against Python's.

python -m tests.kit.callers          prints a table; exit code 1 where a caller differs
"""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

import gateway.main
from gateway.settings import GatewaySettings
from serving.testing import hosted
from tests.authority import Authority
from tests.cli.command import run
from tests.pipeline.stack import running
from tests.pipeline.whole_bundle import write_whole_bundle

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
BIN: Final = Path(sys.executable).parent
WAY: Final = 0.15
"""Seconds that the slow network takes in each direction."""
BUILDING: Final = 1800.0
CALLING: Final = 60.0


@dataclass(frozen=True)
class Language:
    """How a caller is built and run, in its folder."""

    name: str
    needs: tuple[str, ...]
    builds: tuple[tuple[str, ...], ...]
    runs: tuple[str, ...]


LANGUAGES: Final = (
    Language("python", (), (), (sys.executable, "recommend.py")),
    Language(
        "go",
        ("go",),
        ((str(BIN / "buf"), "generate"), ("go", "build", "-o", "recommend", ".")),
        ("./recommend",),
    ),
    Language("node", ("node", "npm"), (("npm", "ci", "--silent"),), ("node", "recommend.mjs")),
    Language(
        "java",
        ("java", "mvn"),
        (("mvn", "--quiet", "--batch-mode", "package"),),
        ("java", "-jar", "target/recommend.jar"),
    ),
)


@dataclass(frozen=True)
class Ended:
    """What a program came to."""

    code: int
    output: str
    error: str
    seconds: float

    @property
    def answer(self) -> str:
        """The items, or the code and the reason of the error."""
        if self.code == 0:
            return " ".join(self.output.split())
        last = self.error.strip().rpartition("\n")[2]  # others may log before it
        return last.partition(":")[0].strip()


@dataclass(frozen=True)
class Case:
    """A call that every language makes."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]


async def execute(
    folder: Path, command: Sequence[str], seconds: float, environment: Mapping[str, str] = {}
) -> Ended:
    """Runs a program in a folder, which is killed after so many seconds."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, error = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        process.kill()
        return Ended(-1, "", f"took over {seconds:.0f} s", seconds)
    code = process.returncode if process.returncode is not None else -1
    return Ended(code, output.decode(), error.decode(), time.monotonic() - began)


@asynccontextmanager
async def slow(address: str) -> AsyncIterator[str]:
    """A network that takes its time before an address: yields its own."""
    host, _, port = address.partition(":")
    tasks = set[asyncio.Task[None]]()

    async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await source.read(65536):
            loop.call_later(WAY, target.write, data)
        loop.call_later(WAY, target.close)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, before = await asyncio.open_connection(host, int(port))
        for source, target in ((reader, before), (behind, writer)):
            task = asyncio.create_task(carry(source, target))
            tasks.add(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for task in tasks:
            task.cancel()


@asynccontextmanager
async def cases(directory: Path) -> AsyncIterator[list[Case]]:
    """Calls of a Tandem that runs meanwhile."""
    bundle, authority = write_whole_bundle(directory), Authority()
    trusted = authority.write(directory)
    certificate, private = authority.issue("gateway").write(directory, "gateway")
    files = {name: str(directory / name) for name in ("keys.toml", "service.key", "operator.key")}
    made = run("keys", "init", "--file", files["keys.toml"], "--service-key",
               files["service.key"], "--operator-key", files["operator.key"])  # fmt: skip
    assert made.code == 0, made.stderr
    key = (directory / "operator.key").read_text("utf-8").strip()
    async with running(bundle) as hosts, slow(hosts.addresses["gateway"]) as far:
        guarded = GatewaySettings(
            bundle=bundle, port=0, threads=1, history="bundle",
            candidate_target=hosts.addresses["candidate"],
            generator_target=hosts.addresses["generator"], keys_file=directory / "keys.toml",
            tls_certificate=certificate, tls_key=private,
        )  # fmt: skip
        async with hosted(guarded, gateway.main.service(guarded)) as (_, at):
            plain, secured = hosts.addresses["gateway"], at.replace("127.0.0.1", "localhost")
            tls = {"AUTHORITY": str(trusted), "TANDEM_KEY": key, "TIMEOUT": "20"}
            yield [
                Case("in the clear", (plain, "ann", "5"), {"TIMEOUT": "20"}),
                Case("TLS and a key", (secured, "ann", "5"), tls),
                Case("a wrong key", (secured, "ann", "5"), {**tls, "TANDEM_KEY": "operator.wrong"}),
                Case("a mistake", (plain, "ann", "-1"), {"TIMEOUT": "20"}),
                Case("300 ms away", (far, "ann", "5"), {"TIMEOUT": "20"}),
                Case("300 ms away, 0.2 s of time", (far, "ann", "5"), {"TIMEOUT": "0.2"}),
            ]


async def build(language: Language) -> str:
    """Builds a caller. Returns why it cannot be run; empty where it can."""
    if missing := [program for program in language.needs if shutil.which(program) is None]:
        return f"not run: {', '.join(missing)} not installed"
    for command in language.builds:
        built = await execute(EXAMPLES / language.name, command, BUILDING)
        if built.code != 0:
            return f"not built: {(built.error or built.output).strip()[-2000:]}"
    return ""


async def compare(console: Console) -> bool:
    """Prints what each caller came to. Returns whether all that were run agree with Python's."""
    table = Table("caller", "call", "came to", "seconds", "as Python")
    agreed, expected = True, dict[str, str]()
    with tempfile.TemporaryDirectory() as directory:
        async with cases(Path(directory)) as calls:
            for language in LANGUAGES:
                with console.status(f"building {language.name}"):
                    obstacle = await build(language)
                if obstacle:
                    table.add_row(language.name, "", obstacle, "", "")
                    agreed &= obstacle.startswith("not run")
                    continue
                for case in calls:
                    command = (*language.runs, *case.arguments)
                    folder = EXAMPLES / language.name
                    ended = await execute(folder, command, CALLING, case.environment)
                    same = ended.answer == expected.setdefault(case.name, ended.answer)
                    agreed &= same
                    row = (case.name, ended.answer or ended.error[-500:], f"{ended.seconds:.2f}")
                    table.add_row(language.name, *row, "yes" if same else "NO")
    console.print(table)
    return agreed


def main() -> None:
    """Prints the table."""
    console = Console(width=150)
    sys.exit(0 if asyncio.run(compare(console)) else 1)


if __name__ == "__main__":
    main()

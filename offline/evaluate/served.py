"""The row `pipeline`: what clients get from the three real processes."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from core.bundle import Bundle
from offline.evaluate.protocol import LISTED, RANKINGS, Question, RankedList
from offline.metrics import Ranking
from tandem import Client

_CALLERS: Final = 4
_START_SECONDS: Final = 120.0
_CALL_SECONDS: Final = 30.0


class ServingError(Exception):
    """The processes did not come up."""


def served_lists(
    bundle: Bundle, asked: Sequence[Question], advance: Callable[[int], None]
) -> dict[Ranking, list[RankedList]]:
    """Serves the bundle with three processes and asks the gateway, as any client would."""
    with serving(bundle.path) as addresses, Client(addresses["gateway"]) as client:

        def ask(question: Question, include_seen: bool) -> RankedList:
            answer = client.recommend(
                user_id=question.user_id,
                history=bundle.catalog.ids(question.history),
                max_results=LISTED,
                include_seen=include_seen,
                timeout=_CALL_SECONDS,
            )
            advance(1)
            scored = [(r.item_id, r.score) for r in answer.recommendations]
            return RankedList.of(bundle.catalog, scored)

        with ThreadPoolExecutor(_CALLERS) as callers:
            return {
                ranking: list(callers.map(ask, asked, [ranking == "unfiltered"] * len(asked)))
                for ranking in RANKINGS
            }


@contextmanager
def serving(bundle: Path) -> Iterator[dict[str, str]]:
    """Runs `tandem serve all` on free ports and yields the address of each service."""
    command = [
        sys.executable, "-m", "cli.main", "serve", "all", "--bundle", str(bundle),
        "--port", "0", "--candidate-port", "0", "--generator-port", "0", "--log-level", "warning",
        "--history", "bundle",  # the data's, whatever was recorded since
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own program
        try:
            yield _addresses(process)
        finally:
            process.terminate()


def _addresses(process: subprocess.Popen[str]) -> dict[str, str]:
    """Reads what `serve all` prints until it names the gateway, the last to serve."""
    addresses: dict[str, str] = {}
    give_up = threading.Timer(_START_SECONDS, process.kill)
    give_up.start()
    try:
        for line in process.stdout or ():
            name, _, address = line.strip().partition(" serves at ")
            addresses[name] = address
            if name == "gateway":
                return addresses
    finally:
        give_up.cancel()
    raise ServingError("the services did not start; their log is above")

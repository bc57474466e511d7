"""Request data for ghz, made from a bundle's real users. ghz takes a file's requests in turn."""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.bundle import Bundle

DATA: Final = Path("build/load")
STRATEGIES: Final = ("rerank", "generate", "fuse", "embedding")
MAX_USERS: Final = 5_000
"""ghz holds all requests in memory, and repeats them in its report."""

Requests = list[dict[str, Any]]


def load_requests(bundle: Bundle, *, max_results: int = 10) -> dict[str, Requests]:
    """Makes the requests of every configuration, by its name, in protobuf's JSON form.

    `recommend-<strategy>` asks for each user by id, so that the gateway looks the history up, and
    forbids degraded answers, so that these count as failed calls;
    `similar-items` asks for what is like the newest item of each user. Large data is thinned out
    evenly to `MAX_USERS`.

    Raises:
        ValueError: no user of the bundle has a history.
    """
    users = newest_items(bundle)
    if not users:
        raise ValueError(f"{bundle.path} has no user with a history")
    requests = {
        f"recommend-{strategy}": [
            {
                "user_id": user,
                "strategy": f"STRATEGY_{strategy.upper()}",
                "max_results": max_results,
                "forbid_degraded": True,
            }
            for user in users
        ]
        for strategy in STRATEGIES
    }
    requests["similar-items"] = [
        {"query": {"items": {"item_ids": [newest]}, "max_results": max_results}}
        for newest in users.values()
    ]
    return requests


def write(name: str, data: Requests, directory: Path = DATA) -> Path:
    """Writes the requests of one load."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def newest_items(bundle: Bundle) -> dict[str, str]:
    """Users with a history, and the newest item of each."""
    newest = {}
    for user in bundle.histories.user_index:
        history = bundle.histories.of(user)
        if history is not None and len(history):
            newest[user] = int(history[-1])
    users = list(newest)
    if len(users) > MAX_USERS:
        users = [users[i] for i in np.linspace(0, len(users) - 1, MAX_USERS).astype(int)]
    return dict(zip(users, bundle.catalog.ids(newest[user] for user in users), strict=True))

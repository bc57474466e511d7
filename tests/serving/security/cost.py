"""What the guard costs a call: python -m tests.serving.security.cost"""

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from gateway.quotas import CallerQuotas
from serving.security.guard import Guard
from serving.security.keys_file import watch_keys
from serving.security.rights import Right
from tests.serving.security.credentials import KeysFile, bearer

METHOD = "/tandem.v1.RecommendationService/Recommend"
CALLS = 2_000


async def microseconds(guard: Guard, credential: Callable[[int], str | None]) -> float:
    """Of one call, the median of five rounds."""
    rounds = []
    for _ in range(5):
        shown = [bearer(credential(number)) for number in range(CALLS)]
        started = time.perf_counter()
        for metadata in shown:
            await guard.admit(METHOD, metadata)
        rounds.append((time.perf_counter() - started) / CALLS * 1e6)
    return sorted(rounds)[2]


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        keys = KeysFile(Path(directory) / "keys.toml").trust_tokens()
        key = keys.add("shop", {Right.RECOMMEND})
        limited = keys.add("limited", {Right.RECOMMEND}, calls_per_second=10**9)
        guard = Guard(watch_keys(keys.path), quotas=CallerQuotas())
        seen = keys.token("recommend")
        for what, one, credential in (
            ("no keys", Guard(), lambda _: None),
            ("a key", guard, lambda _: key),
            ("a key with a quota", guard, lambda _: limited),
            ("a token that was seen", guard, lambda _: seen),
            ("a new token, EdDSA", guard, lambda n: keys.token("recommend", sub=f"{n}")),
        ):
            print(f"{what:24}{await microseconds(one, credential):8.1f} µs")  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main())

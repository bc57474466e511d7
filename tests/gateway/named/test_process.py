"""A gateway's process that a file tells of two shops, and what commands say to it."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from serving.settings import ServerSettings
from serving.testing import hosted
from tests.cli.command import run
from tests.gateway.fake_process import SERVICES
from tests.gateway.named.shops import SHOPS, fake_service, write_shop
from tests.processes import Server, servers


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Server]:
    """It is not started yet; the services are there."""
    async with AsyncExitStack() as opened:
        lines = []
        for shop in SHOPS:
            path = write_shop(tmp_path, shop)
            lines += [f"[gateway{'.bundles.' + shop if shop else ''}]", f'bundle = "{path}"']
            lines.append(f'history = "{tmp_path / f"{path.parent.name}.sqlite"}"')
            for process in SERVICES:
                settings = ServerSettings(bundle=path, port=0)
                service = hosted(settings, fake_service(process, path, []))
                _, address = await opened.enter_async_context(service)
                lines.append(f'{process}_target = "{address}"')
        file = tmp_path / "tandem.toml"
        file.write_text("\n".join(lines))
        yield Server("gateway", ["cli.main", "serve", "gateway"], tmp_path, {"config": file})


async def test_commands_name_a_shop(gateway: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with servers(gateway), capture_logs():  # what the services log would be on our stdout
        await asyncio.to_thread(lambda: gateway.start().wait_serving())
        monkeypatch.setenv("TANDEM_ADDRESS", gateway.address)

        async def told(*command: str) -> str:
            result = await asyncio.to_thread(run, *command)
            assert result.code == 0, result.stderr
            return result.stdout

        french = ("--bundle-name", "fr")
        await told("history", "record", "--user", "zoe", "--item", "fr4", *french)
        shown = json.loads(await told("recommend", "--user", "zoe", "--json", *french))
        assert shown["bundle_version"] == "shop-fr/1"
        assert {each["item_id"][:2] for each in shown["recommendations"]} == {"fr"}
        monkeypatch.setenv("TANDEM_BUNDLE_NAME", "fr")
        assert "fr4" in await told("history", "show", "--user", "zoe")
        assert "from shop-fr/1" in await told("similar", "--item", "fr1")
        monkeypatch.delenv("TANDEM_BUNDLE_NAME")
        assert "from shop/1" in await told("similar", "--item", "i1")
        unknown = await asyncio.to_thread(run, "recommend", "--user", "zoe")
        assert unknown.code == 1
        assert "UNKNOWN_USER" in unknown.stderr
        gateway.send(signal.SIGTERM)
        assert await asyncio.to_thread(gateway.exit_code) == 0


async def test_a_broken_shop_ends_the_process(gateway: Server, tmp_path: Path) -> None:
    (tmp_path / "shop-fr" / "1" / "users.json").write_text("[]")
    with servers(gateway):
        await asyncio.to_thread(gateway.start)
        assert await asyncio.to_thread(gateway.exit_code) == 1
    (line,) = [line for line in gateway.lines() if line["event"] == "cannot serve"]
    assert line["reason"] == "BUNDLE_INVALID"
    assert line["error"].startswith("bundle 'fr': ")
    assert "users.json" in line["error"]

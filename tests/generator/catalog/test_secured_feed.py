"""Following a catalog that is guarded: with a key, by TLS, and through a new authority."""

from contextlib import aclosing
from pathlib import Path

import pytest

from services.generator.catalog.client import CatalogFeed, Disconnected
from serving.security.guard import Guard
from serving.security.keys_file import watch_keys
from serving.security.links import Link
from serving.security.rights import Right
from serving.security.tls import TlsFiles, server_credentials
from tests.authority import Authority
from tests.generator.catalog.fake_catalog import FakeCatalog
from tests.serving.security.credentials import KeysFile


async def first(feed: CatalogFeed) -> int:
    """The sequence of the first step."""
    async with aclosing(feed.steps(0)) as steps:
        return (await anext(steps)).sequence


async def test_it_shows_its_key_and_takes_a_new_authority(tmp_path: Path) -> None:
    keys = KeysFile(tmp_path / "keys.toml")
    key = tmp_path / "service.key"
    key.write_text(keys.add("generator", {Right.INTERNAL}))
    authority = Authority()
    catalog = FakeCatalog("tiny/1")  # type: ignore[abstract]
    catalog.guard = Guard(watch_keys(keys.path))
    catalog.tls = server_credentials(TlsFiles(*authority.issue("a").write(tmp_path, "candidate")))
    trusted = TlsFiles(authority=authority.write(tmp_path))
    address = await catalog.start()
    feed = CatalogFeed(address, "tiny/1", link=Link(trusted, key, check_seconds=0))
    unknown = CatalogFeed(address, "tiny/1", link=Link(trusted))
    assert await first(feed) == 0
    with pytest.raises(Disconnected, match="NO_CREDENTIALS"):
        await first(unknown)

    newer = Authority()
    newer.issue("a").write(tmp_path, "candidate")
    await catalog.stop()
    await catalog.start()
    with pytest.raises(Disconnected, match="CERTIFICATE_VERIFY_FAILED"):
        await first(feed)
    newer.write(tmp_path)
    assert await first(feed) == 0
    for each in (feed, unknown):
        await each.close()
    await catalog.stop()

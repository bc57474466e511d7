"""`tandem keys`, and commands that show what it made."""

import os
import stat
from pathlib import Path

import pytest

from serving.security.guard import Guard
from serving.security.keyring import Keyring
from serving.security.keys_file import read_keys, watch_keys
from serving.security.rights import PROTECTED, Right
from serving.security.tls import TlsFiles, server_credentials
from tandem import key_file
from tests.authority import Authority
from tests.cli.command import run
from tests.cli.gateway import Gateway
from tests.tiny_bundle import write_tiny_bundle


def read(file: Path) -> Keyring:
    return read_keys(file.read_bytes(), file.parent)


def is_private(file: Path) -> bool:
    return stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_new_key_is_printed_and_its_digest_kept(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    more = ("--right", "recommend", "--right", "delete-user", "--calls-per-minute", "90")
    made = run("keys", "new", "shop", "--file", str(file), *more)
    assert made.code == 0, made.stderr
    key = made.stdout.strip()
    who = read(file).authenticate(key)
    assert who.name == "key:shop"
    assert who.rights == {Right.RECOMMEND, Right.DELETE_USER}
    assert who.quota.per_minute == 90
    assert key.partition(".")[2] not in file.read_text()
    # Others are added to it, under names of their own.
    out = tmp_path / "app.key"
    arguments = ("--file", str(file), "--right", "similar", "--out", str(out))
    assert run("keys", "new", "app", *arguments).code == 0
    assert set(read(file).keys) == {"shop", "app"}
    assert read(file).authenticate(out.read_text().strip()).name == "key:app"
    assert is_private(out)
    again = run("keys", "new", "app", *arguments)
    assert again.code == 1
    assert set(read(file).keys) == {"shop", "app"}


@pytest.mark.parametrize("name", ["a.b", "a b", "", "x" * 65])
def test_a_name_that_no_key_can_have_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "keys.toml"
    assert run("keys", "new", name, "--file", str(file), "--right", "similar").code == 1
    assert not file.exists()


def test_an_installation_has_its_keys_made_once(tmp_path: Path) -> None:
    file, service, operator = (tmp_path / name for name in ("keys.toml", "service", "operator"))
    command = ["keys", "init", "--file", str(file), "--service-key", str(service)]
    command += ["--operator-key", str(operator)]
    assert run(*command).code == 0
    before = file.read_bytes(), service.read_bytes(), operator.read_bytes()
    assert run(*command).code == 0
    assert (file.read_bytes(), service.read_bytes(), operator.read_bytes()) == before
    keys = read(file)
    assert keys.authenticate(service.read_text().strip()).rights == {Right.INTERNAL}
    assert keys.authenticate(operator.read_text().strip()).rights == set(Right)
    assert keys.anonymous.rights.isdisjoint(PROTECTED)
    assert is_private(service)
    assert is_private(operator)


def test_commands_show_a_key_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, out = tmp_path / "keys.toml", tmp_path / "shop.key"
    made = ("--file", str(file), "--right", "recommend", "--out", str(out))
    assert run("keys", "new", "shop", *made).code == 0
    authority = Authority()
    trusted = authority.write(tmp_path)
    tls = server_credentials(TlsFiles(*authority.issue("gateway").write(tmp_path, "gateway")))
    guard = Guard(watch_keys(file))
    with Gateway(write_tiny_bundle(tmp_path), guard=guard, tls=tls) as gateway:
        ask = ("recommend", "--user", "ann", "--json", "--address", gateway.address)
        secured = (*ask, "--authority", str(trusted))
        assert "no gateway answers" in run(*ask).stderr
        assert "NO_CREDENTIALS" in run(*secured).stderr
        assert run(*secured, "--key-file", str(out)).code == 0
        monkeypatch.setenv("TANDEM_KEY", out.read_text().strip())
        assert run(*secured).code == 0
        assert "MISSING_RIGHT" in run("history", "show", "--user", "ann", *secured[4:]).stderr
        monkeypatch.setenv("TANDEM_KEY", "shop.wrong")
        assert "INVALID_CREDENTIALS" in run(*secured).stderr


def test_a_key_in_a_file_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "shop.key"
    file.write_text("shop.old\n")
    current = key_file(file)
    assert current() == "shop.old"
    file.write_text("shop.new\n")
    os.utime(file, ns=(1, 1))
    assert current() == "shop.new"
    file.unlink()
    assert current() == "shop.new"


def test_half_of_a_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.pem").touch()
    asked = run("recommend", "--user", "ann", "--certificate", str(tmp_path / "c.pem"))
    assert "--certificate-key" in asked.stderr
    assert asked.code == 2

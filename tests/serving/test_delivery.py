"""Bundles that are brought from somewhere: whole and signed, or not at all."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner

from cli.bundle.storage import Directory, ObjectStorage
from cli.main import app
from core.bundle import Bundle
from core.errors import BundleError, SettingsError, TandemError
from core.signature import SIGNATURE, read_private_key, read_public_key, sign
from serving.bundles.delivery import fetch
from tests.tiny_bundle import write_tiny_bundle

PRIVATE = Ed25519PrivateKey.from_private_bytes(b"1" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"2" * 32)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A signed bundle."""
    path = write_tiny_bundle(tmp_path / "kept").resolve()
    manifest = (path / "manifest.json").read_bytes()
    (path / SIGNATURE).write_bytes(sign(manifest, PRIVATE))
    return path


def files(path: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in path.iterdir()}


@pytest.mark.parametrize("key", [None, PRIVATE.public_key()])
def test_what_is_fetched_is_what_was_kept(kept: Path, tmp_path: Path, key: object) -> None:
    told: list[tuple[int, int]] = []
    path = fetch(Directory(kept), tmp_path / "here", key, lambda *at: told.append(at))  # type: ignore[arg-type]
    assert path == tmp_path / "here" / "tiny" / "1"
    expected = files(kept)
    if key is None:
        del expected[SIGNATURE]
    assert files(path) == expected
    assert Bundle.open(path, key=key).version == "tiny/1"  # type: ignore[arg-type]
    assert told == sorted(told)
    assert (
        told[-1][0]
        == told[-1][1]
        == sum(entry.bytes for entry in Bundle.open(kept).manifest.files.values())
    )


def test_what_is_there_stays_as_it_is(kept: Path, tmp_path: Path) -> None:
    first = fetch(Directory(kept), tmp_path / "here")
    inodes = {file.name: file.stat().st_ino for file in first.iterdir()}
    assert fetch(Directory(kept), tmp_path / "here") == first
    assert {file.name: file.stat().st_ino for file in first.iterdir()} == inodes


def altered(path: Path) -> None:
    data = bytearray((path / "users.json").read_bytes())
    data[0] ^= 1
    (path / "users.json").write_bytes(data)


def longer(path: Path) -> None:
    with (path / "users.json").open("ab") as file:
        file.write(b" " * 3_000_000)


def shorter(path: Path) -> None:
    os.truncate(path / "users.json", 1)


def missing(path: Path) -> None:
    (path / "users.json").unlink()


def unsigned(path: Path) -> None:
    (path / SIGNATURE).unlink()


def signed_by_another(path: Path) -> None:
    (path / SIGNATURE).write_bytes(sign((path / "manifest.json").read_bytes(), OTHER))


def signed_before(path: Path) -> None:
    rewrite(path, items=7)


def not_base64(path: Path) -> None:
    (path / SIGNATURE).write_bytes(b"\xff" * 64)


def rewrite(path: Path, **changes: object) -> None:
    manifest = json.loads((path / "manifest.json").read_text()) | changes
    (path / "manifest.json").write_text(json.dumps(manifest))


def escaping(path: Path) -> None:
    rewrite(path, files={"../../outside": {"sha256": "0", "bytes": 1}})
    (path / SIGNATURE).write_bytes(sign((path / "manifest.json").read_bytes(), PRIVATE))


def named_outside(path: Path) -> None:
    rewrite(path, version="../outside")
    (path / SIGNATURE).write_bytes(sign((path / "manifest.json").read_bytes(), PRIVATE))


@pytest.mark.parametrize(
    ("breaks", "complaint"),
    [
        (altered, "users.json is not the file"),
        (longer, "users.json is not the file"),
        (shorter, "users.json is not the file"),
        (missing, "has no users.json"),
        (unsigned, "has no manifest.json.sig"),
        (signed_by_another, "by the key that is trusted here"),
        (signed_before, "by the key that is trusted here"),
        (not_base64, "not a signature in base64"),
        (escaping, "outside of it"),
        (named_outside, "should match pattern"),
    ],
)
def test_what_is_wrong_is_not_taken(
    kept: Path, tmp_path: Path, breaks: object, complaint: str
) -> None:
    breaks(kept)  # type: ignore[operator]
    with pytest.raises(BundleError, match=complaint):
        fetch(Directory(kept), tmp_path / "here", PRIVATE.public_key())
    left = [path for path in (tmp_path / "here").rglob("*") if path.name != "tiny"]
    assert left == []
    assert not (tmp_path / "outside").exists()


def test_a_bundle_must_be_signed_where_a_key_is_trusted(kept: Path) -> None:
    assert Bundle.open(kept, key=PRIVATE.public_key()).version == "tiny/1"
    with pytest.raises(BundleError, match="by the key that is trusted here"):
        Bundle.open(kept, key=OTHER.public_key())
    unsigned(kept)
    with pytest.raises(BundleError, match="is not signed"):
        Bundle.open(kept, key=PRIVATE.public_key())


@pytest.fixture
def bucket(kept: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 server that keeps the bundle."""
    import boto3

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    for name, value in {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT": endpoint,
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket="models")
    for file in kept.iterdir():
        client.put_object(
            Bucket="models", Key=f"bundles/tiny/1/{file.name}", Body=file.read_bytes()
        )
    client.close()
    yield "s3://models/bundles/tiny/1"
    server.stop()


def test_object_storage(kept: Path, bucket: str, tmp_path: Path) -> None:
    path = fetch(ObjectStorage(bucket), tmp_path / "here", PRIVATE.public_key())
    assert files(path) == files(kept)
    with pytest.raises(BundleError, match=r"has no manifest\.json"):
        fetch(ObjectStorage(bucket + "0"), tmp_path / "here")
    with pytest.raises(SettingsError, match="is no address"):
        ObjectStorage("gopher://models/tiny")


def write_keys(directory: Path) -> tuple[Path, Path]:
    private, public = directory / "private.pem", directory / "public.pem"
    private.write_bytes(PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def test_commands_sign_fetch_and_verify(kept: Path, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path)
    unsigned(kept)
    root = str(tmp_path / "here")

    def run(*arguments: str) -> tuple[int, object]:
        result = CliRunner().invoke(app, arguments)
        return result.exit_code, result.exception if result.exit_code else result.output

    code, error = run("bundle", "fetch", str(kept), "--root", root, "--key", str(public))
    assert code == 1
    assert isinstance(error, TandemError)
    assert run("bundle", "sign", str(kept), "--key", str(private))[0] == 0
    assert run("bundle", "fetch", str(kept), "--root", root, "--key", str(public))[0] == 0
    here = str(Path(root) / "tiny" / "1")
    code, said = run("bundle", "verify", here, "--key", str(public))
    assert code == 0
    assert "is whole, signed by" in str(said)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path)
    assert read_private_key(private).sign(b"") == PRIVATE.sign(b"")
    for read, wrong in ((read_private_key, public), (read_public_key, private)):
        with pytest.raises(SettingsError, match=wrong.name):
            read(wrong)
    with pytest.raises(SettingsError, match="nowhere"):
        read_public_key(tmp_path / "nowhere")

"""A generator that is killed in the middle of a text."""

import signal
from pathlib import Path

import pytest

import tandem
from tests.gateway.fake_texts import STALLS
from tests.processes import Server, servers
from tests.tiny_bundle import write_tiny_bundle


def test_a_killed_generator_is_unavailable(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path)
    generator, candidate = (
        Server(name, ["tests.gateway.fake_process", name], tmp_path, {"bundle": bundle})
        for name in ("generator", "candidate")
    )
    gateway = Server("gateway", ["cli.main", "serve", "gateway"], tmp_path, {"bundle": bundle})
    with servers(candidate, generator, gateway):
        for service in (candidate, generator):
            service.start().wait_serving()
            gateway.flags[f"{service.name}-target"] = service.address
        gateway.flags["history"] = "bundle"
        gateway.start().wait_serving()
        with tandem.Client(gateway.address, timeout=30) as client:
            words = client.explain("ann", "i5", feature=STALLS, timeout=30)
            assert next(words).delta == "You would"
            generator.send(signal.SIGKILL)
            with pytest.raises(tandem.Unavailable) as caught:
                next(words)
            assert caught.value.reason == "SERVICE_UNAVAILABLE"
            generator.start().wait_serving()
            text = "".join(part.delta for part in client.explain("ann", "i5", timeout=30))
    assert text == "You would like i5 after i0 i1 i2"

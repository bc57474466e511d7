"""`tandem serve all` with fake engine services: python -m tests.cli.fake_stack BUNDLE [console]."""

import asyncio
import sys
from collections.abc import Mapping

from cli.serve.supervise import supervise


def main() -> None:
    bundle = sys.argv[1]

    def fake(name: str) -> list[str]:
        module = "tests.gateway.fake_process"
        return [sys.executable, "-m", module, name, "--bundle", bundle, "--port", "0"]

    def gateway(addresses: Mapping[str, str]) -> list[str]:
        command = [sys.executable, "-m", "cli.main", "serve", "gateway", "--bundle", bundle]
        targets = [
            f"--candidate-target={addresses['candidate']}",
            f"--generator-target={addresses['generator']}",
        ]
        return [*command, "--port=0", "--history=bundle", *targets]

    def console(addresses: Mapping[str, str]) -> list[str]:
        command = [sys.executable, "-m", "cli.main", "console", "--port=0"]
        return [*command, f"--gateway={addresses['gateway']}"]

    def report(name: str, address: str) -> None:
        sys.stdout.write(f"{name} {address}\n")
        sys.stdout.flush()

    services = {
        "candidate": lambda _: fake("candidate"),
        "generator": lambda _: fake("generator"),
    }
    after = {"console": console} if "console" in sys.argv[2:] else {}
    asyncio.run(supervise(services, gateway, host="127.0.0.1", report=report, after=after))


if __name__ == "__main__":
    main()

"""Runs `tandem` on a disk of its own that is nearly full: a tmpfs that no other process sees.

python -m tests.gateway.small_disk MOUNT serve gateway …
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

BALLAST = "ballast"
"""A file that takes up most of the disk; removing it makes room."""

_SCRIPT = f"""
mount -t tmpfs -o size=16m tmpfs "$1" && head -c 8m /dev/zero > "$1/{BALLAST}" || exit 1
shift
exec "$@"
"""
_PRIVATE = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _SCRIPT, "sh")


def available(directory: Path) -> bool:
    """Whether this system lets a process have a disk of its own."""
    if shutil.which("unshare") is None:
        return False
    done = subprocess.run([*_PRIVATE, directory, "true"], capture_output=True, check=False)
    return done.returncode == 0


def make_room(process: int, mount: Path) -> None:
    """Removes the ballast on the disk of a process that runs on one."""
    Path(f"/proc/{process}/root{mount}/{BALLAST}").unlink()


if __name__ == "__main__":
    mount, *arguments = sys.argv[1:]
    command = [*_PRIVATE, mount, sys.executable, "-m", "cli.main", *arguments]
    os.execvp(command[0], command)  # noqa: S606 - its process id must be this one

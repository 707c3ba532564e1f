"""Check installations from nothing: every pip installs exactly the locks, whatever newer releases are on offer.

Each case copies the checkout into an empty folder and runs make there, with an empty home and no cache. pip is also
offered version 999 of every locked package. Run it with `make fresh`.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tests.install.locks import versions_here
from tests.paths import ROOT

NEWER = "999"
"""The version on offer beside each locked one."""


@dataclass(frozen=True)
class Case:
    """An installation to check."""

    pip: str
    """The requirement for pip; empty: the one that came with this Python."""
    stamp: str
    """The make target that installs."""
    lock: str
    """The lock that must be installed, and nothing else."""

    def __str__(self) -> str:
        """Name the case."""
        return f"{self.lock} with {self.pip or 'the pip of this Python'}"


RUN = (".venv/.running", "requirements.lock")
DEVELOP = (".venv/.developing", "requirements-dev.lock")
OLDEST = "pip==22.0.4" if sys.version_info < (3, 12) else "pip==23.2.1"
"""The oldest pip that works with this Python: 22.0 does not start under 3.12."""
CASES = [Case(OLDEST, *RUN), Case("", *DEVELOP), Case("pip", *RUN)]


def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    """Run a command and return what it printed; end with its output where it fails."""
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def offer_newer_releases(folder: Path) -> None:
    """Write an empty wheel of version 999 for every package of the development lock."""
    for name in versions_here(ROOT / "requirements-dev.lock"):
        stem = f"{name.replace('-', '_')}-{NEWER}"
        with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {NEWER}\n")
            wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{stem}.dist-info/RECORD", "")


def copy_checkout(folder: Path) -> None:
    """Copy the tracked and the new files of the checkout, but nothing that make wrote."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - git, wherever it is
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def environment_of(folder: Path, offered: Path) -> dict[str, str]:
    """Return the environment of a machine that has installed nothing, with newer releases on offer."""
    home = folder / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "XDG_"))}
    links = " ".join(filter(None, [kept.get("PIP_FIND_LINKS", ""), str(offered)]))
    own = Path.home() / ".config" / "pip" / "pip.conf"  # where packages come from is the machine's matter
    kept |= {"PIP_CONFIG_FILE": str(own)} if own.is_file() else {}
    return kept | {"HOME": str(home), "PIP_NO_CACHE_DIR": "1", "PIP_FIND_LINKS": links}


def check_offer(folder: Path, offered: Path, environment: dict[str, str]) -> None:
    """Check that pip would take a newer release if it resolved: without that, the cases show nothing."""
    target = folder / "newer"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(target)]
    run([*command, "--find-links", str(offered), "typer"], folder, environment)
    if not (target / f"typer-{NEWER}.dist-info").is_dir():
        sys.exit(f"pip did not take typer {NEWER} from {offered}")


def check_installation(case: Case, offered: Path) -> None:
    """Install in a new folder, and compare what is there with the lock."""
    with tempfile.TemporaryDirectory(prefix="offers-fresh-") as name:
        folder = Path(name)
        checkout = folder / "checkout"
        checkout.mkdir()
        copy_checkout(checkout)
        environment = environment_of(folder, offered)
        base = getattr(sys, "_base_executable", sys.executable)
        python = str(checkout / ".venv" / "bin" / "python")
        if case.pip:
            run([base, "-m", "venv", ".venv"], checkout, environment)
            run([python, "-m", "pip", "install", "--quiet", "--upgrade", case.pip], checkout, environment)

        begin = time.monotonic()
        run(["make", f"PYTHON={base}", case.stamp], checkout, environment)
        took = time.monotonic() - begin

        run([python, "-m", "pip", "check"], checkout, environment)
        listed = json.loads(run([python, "-m", "pip", "list", "--format=json"], checkout, environment))
        found = {package["name"].lower().replace("_", "-").replace(".", "-"): package["version"] for package in listed}
        pip = found.pop("pip")
        found.pop("offers")
        locked = versions_here(ROOT / case.lock)
        if found != locked:
            sys.exit(f"{case}: not the lock: {sorted(found.items() ^ locked.items())}")
        print(f"{case} ({pip}): {len(found)} packages as locked, in {took:.0f} s", flush=True)  # noqa: T201


def main() -> None:
    """Check every case, and end with status 1 at the first that fails."""
    with tempfile.TemporaryDirectory(prefix="offers-newer-") as name:
        offered = Path(name)
        offer_newer_releases(offered)
        with tempfile.TemporaryDirectory(prefix="offers-fresh-") as trial:
            check_offer(Path(trial), offered, dict(os.environ))
        for case in CASES:
            check_installation(case, offered)


if __name__ == "__main__":
    main()

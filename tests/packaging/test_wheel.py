"""The built wheel brings its compiled loops along, and a server installed from it compiles nothing."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from offers.compiled.cache import has_baseline
from tests.needs import lacking
from tests.paths import ROOT
from tests.server.running import LONG_S, wait_for

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the built wheel, which finds its dependencies where this one does."""
    if not has_baseline() or sys.platform != "linux":
        lacking("Linux on a CPU of the baseline: wheels carry loops for these alone")
    folder = tmp_path_factory.mktemp("installed")
    command = ["make", "package", "DEVELOPING=", f"BIN={BIN}", f"DIST={folder / 'dist'}"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = (folder / "dist").iterdir()
    assert wheel.name.endswith(f"-cp{sys.version_info[0]}{sys.version_info[1]}-none-linux_x86_64.whl")
    environment = folder / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))
    shared = [path for path in sys.path if path.endswith("-packages")]
    (packages / "shared.pth").write_text("\n".join(shared), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python")]
    install = ["install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", str(wheel)]
    subprocess.run([*pip, *install], check=True)
    return environment


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """An empty home folder."""
    yield tmp_path
    shutil.rmtree(tmp_path / ".local", ignore_errors=True)


def test_an_installed_server_answers_without_compiling(installed: Path, home: Path) -> None:
    """From an empty home, the server reads every loop from the wheel, and writes none to the user's cache."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OFFERS_", "XDG_", "NUMBA_"))}
    environment = {**kept, "HOME": str(home)}
    log = home / "log"
    offers = str(installed / "bin" / "offers")
    command = [offers, "serve", "--port", "0", "--workers", "1", "--no-learner", "--drain-s", "0"]
    with log.open("wb") as stderr:
        server = subprocess.Popen(command, cwd=home, env=environment, stderr=stderr)

    def said(event: str) -> list[dict[str, object]]:
        assert server.poll() is None, log.read_text()
        lines = [orjson.loads(line) for line in log.read_bytes().splitlines() if line.startswith(b"{")]
        return [line for line in lines if line["event"] == event]

    try:
        wait_for(lambda: said("worker_serving"), "the server is ready", LONG_S)
        (loops,), (started,) = said("loops_ready"), said("server_starting")
        target = f"127.0.0.1:{started['port']}"
        query = [offers, "query", "--lat", "48.8674", "--lng", "2.3636", "--target", target]
        answer = subprocess.run(query, cwd=home, env=environment, check=True, capture_output=True, text=True)
    finally:
        server.terminate()
        server.wait(LONG_S)
    assert "Paris" in answer.stdout
    assert loops["compiled"] == 0
    assert isinstance(loops["read"], int)
    assert loops["read"] > 20
    assert [] == list(home.rglob("*.nbc"))

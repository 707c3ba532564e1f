"""The example backends build from the protos and do what they promise against a real server."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from offers.testing import serving
from tests.needs import lacking
from tests.paths import ROOT

EXAMPLES = ROOT / "examples"
SOURCES = ("python/backend.py", "go/main.go", "node/src/main.ts", "java/src/main/java/example/Backend.java")
BUILD_S = 900
"""The first build downloads what it needs."""
BUF = [str(Path(sys.executable).with_name("buf")), "generate"]


CATALOGUE = """
catalog_id: examples
venues:
  - {venue_id: bar, title: Bar, point: {latitude: 48.8674, longitude: 2.3636}, radius_m: 1500}
offers:
  - {offer_id: lunch, title: Lunch, benefit: {percent_off: 20}, target: {venue_ids: [bar]}}
  - {offer_id: welcome, title: Welcome, benefit: {free_delivery: {}}, target: {everywhere: true}}
"""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve a catalogue whose answers hold for a day, and return the address."""
    path = tmp_path_factory.mktemp("examples") / "catalogue.yaml"
    path.write_text(CATALOGUE, "utf-8")
    with serving(path) as served:
        yield served.target


def run(command: Sequence[str], folder: Path = ROOT) -> str:
    """Run a command and return what it prints; fail with all of its output if it fails."""
    if shutil.which(command[0]) is None:
        lacking(f"{command[0]}: install it, or see `.ci/run`")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=BUILD_S, check=False)
    assert 0 == done.returncode, f"{command}\n{done.stdout}\n{done.stderr}"
    return re.sub(r"\x1b\[[\d;]*m", "", done.stdout)  # Maven resets colours even where it is told to use none


def generate(example: str, *paths: str) -> None:
    """Generate an example's client from the protos."""
    if not (ROOT / "build" / "imports").is_dir():
        run(["make", "build/imports"])
    chosen = [word for path in ("protos/offers", *paths) for word in ("--path", path)]
    run([*BUF, "--template", f"examples/{example}/buf.gen.yaml", *chosen])


def check(output: str) -> None:
    """Check what every example prints: two screens, two accepted events, one decoded refusal."""
    screens = re.findall(r"^asked=(true|false) until \d{4}-\d\d-\d\dT", output, re.MULTILINE)
    assert ["true", "false"] == screens
    assert re.search(r"^1\. .+ \[?REASON_CODE_|^1\. .+ (NEARBY|EVERYWHERE|IN_ZONE|OPEN_NOW)", output, re.MULTILINE)
    assert ["true", "true"] == re.findall(r"^reported: (\w+)$", output, re.MULTILINE)
    assert re.search(r"^refused: context\.location\.point\.latitude: .*91", output, re.MULTILINE)


def test_the_python_example_asks_keeps_and_reports(target: str) -> None:
    """The Python backend, with the client of this package."""
    check(run([sys.executable, str(EXAMPLES / "python" / "backend.py"), target]))


def test_the_go_example_asks_keeps_and_reports(target: str) -> None:
    """The Go backend, with a generated client."""
    if shutil.which("go") is None:
        lacking("go: install Go 1.26 or newer")
    generate("go")
    check(run(["go", "run", ".", target], EXAMPLES / "go"))


def test_the_typescript_example_asks_keeps_and_reports(target: str) -> None:
    """The TypeScript backend, with a generated client."""
    folder = EXAMPLES / "node"
    run(["npm", "ci", "--no-audit", "--no-fund"], folder)
    generate("node", "build/imports/google")
    run(["npm", "run", "build"], folder)
    check(run(["npm", "start", "--", target], folder))


def test_the_java_example_asks_keeps_and_reports(target: str) -> None:
    """The Java backend, with a client that Maven generates."""
    command = ["mvn", "--quiet", "--batch-mode", "compile", "exec:java", f"-Dexec.args={target}"]
    check(run(command, EXAMPLES / "java"))


@pytest.mark.parametrize(
    "source", ["python/backend.py", "go/main.go", "node/src/main.ts", "java/src/main/java/example/Backend.java"]
)
def test_an_example_is_short(source: str) -> None:
    """An example is read in a minute."""
    assert len((EXAMPLES / source).read_text("utf-8").splitlines()) <= 120

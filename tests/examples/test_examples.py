"""The example backends build from the protos and do what they promise against a real server."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from google.protobuf.compiler.plugin_pb2 import CodeGeneratorResponse

from offers.testing import serving
from tests.needs import lacking
from tests.paths import ROOT

EXAMPLES = ROOT / "examples"
SOURCES = ("python/backend.py", "go/main.go", "node/src/main.ts", "java/src/main/java/example/Backend.java")
BUILD_S = 900
"""The first build downloads what it needs."""
NEEDED = ("buf.yaml", "buf.gen.yaml", "protos", "examples")
"""The parts of a checkout that clients are generated from."""
PROTOS = sorted(path.stem for path in (ROOT / "protos" / "offers" / "v1").glob("*.proto"))
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


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the checkout, generate the clients of the examples by the one command of the guide, and return the copy."""
    copy = tmp_path_factory.mktemp("clone")
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *NEEDED],  # noqa: S607
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, tracked.stdout.split("\0")):
        if (ROOT / name).is_file():  # else it is deleted, and not committed yet
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    if not (ROOT / "build" / "imports").is_dir():
        lacking("build/imports: make build/imports")
    shutil.copytree(ROOT / "build" / "imports", copy / "build" / "imports")
    run([str(Path(sys.executable).with_name("buf")), "generate"], copy)
    return copy


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


def test_the_go_example_asks_keeps_and_reports(target: str, generated: Path) -> None:
    """The Go backend, with a generated client."""
    if shutil.which("go") is None:
        lacking("go: install Go 1.26 or newer")
    assert PROTOS == sorted(
        path.name.removesuffix(".pb.go") for path in (generated / "examples/go/gen/offers/v1").glob("*.pb.go")
        if not path.name.endswith("_grpc.pb.go")
    )  # fmt: skip
    check(run(["go", "run", ".", target], generated / "examples" / "go"))


def test_the_typescript_example_asks_keeps_and_reports(target: str, generated: Path) -> None:
    """The TypeScript backend, with a generated client."""
    folder = generated / "examples" / "node"
    run(["npm", "ci", "--no-audit", "--no-fund"], folder)
    assert PROTOS == sorted(
        path.name.removesuffix("_pb.ts") for path in (folder / "src" / "gen" / "offers" / "v1").glob("*_pb.ts")
    )
    run(["npm", "run", "build"], folder)
    check(run(["npm", "start", "--", target], folder))


def test_without_a_language_the_others_are_generated(tmp_path: Path) -> None:
    """A plugin whose program is missing gives an answer without files, which says that optional fields are known."""
    command = ["sh", str(ROOT / "protos" / "plugin.sh"), "no-such-language", "--anything"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)

    assert CodeGeneratorResponse(supported_features=1) == CodeGeneratorResponse.FromString(done.stdout)
    assert b"no no-such-language: its client is not generated\n" == done.stderr


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

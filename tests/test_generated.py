"""The generated code is up to date with the protos."""

import subprocess
import sys
from pathlib import Path

from tests.paths import ROOT

GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py")


def contents(folder: Path) -> dict[str, str]:
    """Read every generated file of a folder."""
    return {path.name: path.read_text("utf-8") for pattern in GENERATED for path in folder.glob(pattern)}


def test_the_committed_code_is_what_the_generator_makes_of_the_protos(tmp_path: Path) -> None:
    """Regenerating offers/v1 changes nothing: no file more, none less, none different."""
    subprocess.run([sys.executable, ROOT / "protos" / "generate.py", tmp_path], check=True, cwd=ROOT)

    generated = contents(tmp_path / "offers" / "v1")

    assert 35 == len(generated)  # sixteen protos, two files each, and three services
    assert generated == contents(ROOT / "offers" / "v1"), "run `make protos`"

"""The generated code is up to date with the protos."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from google.protobuf.descriptor import FileDescriptor

from tests.paths import ROOT

GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py")
MODULES = [import_module(f"offers.v1.{path.stem}_pb2") for path in sorted((ROOT / "protos/offers/v1").glob("*.proto"))]


def contents(folder: Path) -> dict[str, str]:
    """Read every generated file of a folder."""
    return {path.name: path.read_text("utf-8") for pattern in GENERATED for path in folder.glob(pattern)}


def test_the_committed_code_is_what_the_generator_makes_of_the_protos(tmp_path: Path) -> None:
    """Regenerating offers/v1 changes nothing: no file more, none less, none different."""
    subprocess.run([sys.executable, ROOT / "protos" / "generate.py", tmp_path], check=True, cwd=ROOT)

    generated = contents(tmp_path / "offers" / "v1")

    assert 35 == len(generated)  # sixteen protos, two files each, and three services
    assert generated == contents(ROOT / "offers" / "v1"), "run `make protos`"


@pytest.mark.parametrize("file", [module.DESCRIPTOR for module in MODULES], ids=lambda file: Path(file.name).stem)
def test_every_proto_names_its_package_in_each_language(file: FileDescriptor) -> None:
    """Generators need no options: each language has one package for all files, and Java a class for each message."""
    options = file.GetOptions()

    assert "example.com/offers/gen/offers/v1;offersv1" == options.go_package
    assert ("offers.v1", True) == (options.java_package, options.java_multiple_files)
    assert f"{''.join(map(str.capitalize, Path(file.name).stem.split('_')))}Proto" == options.java_outer_classname
    assert ("OFR", "Offers.V1", "OffersV1") == (
        options.objc_class_prefix,
        options.csharp_namespace,
        options.swift_prefix,
    )

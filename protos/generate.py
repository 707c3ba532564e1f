"""Generate offers/v1 from protos/offers/v1: `python protos/generate.py OUT`, run by `make protos`.

`python protos/generate.py --descriptors FILE` writes the descriptors of all protos and their comments instead, as a
FileDescriptorSet. The generator (grpcio-tools in protos/requirements.lock) is older than the runtime on purpose: its
code runs with protobuf 5.29 and everything newer, so that users of the package are not forced to the newest runtime.
"""

import importlib
import sys
from importlib.resources import files
from pathlib import Path

HERE = Path(__file__).resolve().parent
GENERATOR = HERE.parent / "build" / "protoc"


def generate(out: Path) -> None:
    """Write offers/v1/*_pb2.py, *_pb2_grpc.py and their type stubs under `out`."""
    protos = _protos()
    services = [path for path in protos if path.endswith("_service.proto")]
    out.mkdir(parents=True, exist_ok=True)
    plugin = Path(sys.executable).with_name("protoc-gen-mypy")
    _run(f"--plugin=protoc-gen-mypy={plugin}", f"--python_out={out}", f"--mypy_out=quiet:{out}", *protos)
    _run(f"--grpc_python_out={out}", *services)


def describe(file: Path) -> None:
    """Write the descriptors of all protos, with their comments, to `file`."""
    _run("--include_source_info", f"--descriptor_set_out={file}", *_protos())


def _protos() -> list[str]:
    return sorted(str(path.relative_to(HERE)) for path in HERE.glob("offers/**/*.proto"))


def _run(*arguments: str) -> None:
    """Run protoc. Raises SystemExit where it fails."""
    if not GENERATOR.is_dir():
        message = f"no generator in {GENERATOR}: run `make {GENERATOR.relative_to(HERE.parent)}`"
        raise FileNotFoundError(message)
    if str(GENERATOR) not in sys.path:
        sys.path.insert(0, str(GENERATOR))
    protoc = importlib.import_module("grpc_tools.protoc")
    well_known = files("grpc_tools").joinpath("_proto")
    common = Path(str(files("google.api").joinpath("annotations.proto"))).parents[2]
    if status := protoc.main(["protoc", f"-I{HERE}", f"-I{common}", f"-I{well_known}", *arguments]):
        raise SystemExit(status)


if __name__ == "__main__":
    if sys.argv[1] == "--descriptors":
        describe(Path(sys.argv[2]))
    else:
        generate(Path(sys.argv[1]))

"""Generate offers/v1 from protos/offers/v1: `python protos/generate.py OUT`, run by `make protos`.

The generator (grpcio-tools in protos/requirements.lock) is older than the runtime on purpose: code it makes runs with
protobuf 5.29 and everything newer, so that users of the package are not forced to the newest runtime.
"""

import importlib
import sys
from importlib.resources import files
from pathlib import Path

HERE = Path(__file__).resolve().parent
GENERATOR = HERE.parent / "build" / "protoc"


def generate(out: Path) -> None:
    """Write offers/v1/*_pb2.py, *_pb2_grpc.py and their type stubs under `out`."""
    if not GENERATOR.is_dir():
        message = f"no generator in {GENERATOR}: run `make {GENERATOR.relative_to(HERE.parent)}`"
        raise FileNotFoundError(message)
    sys.path.insert(0, str(GENERATOR))
    protoc = importlib.import_module("grpc_tools.protoc")
    well_known = files("grpc_tools").joinpath("_proto")
    common = Path(str(files("google.api").joinpath("annotations.proto"))).parents[2]
    plugin = Path(sys.executable).with_name("protoc-gen-mypy")
    protos = sorted(str(path.relative_to(HERE)) for path in HERE.glob("offers/**/*.proto"))
    services = [path for path in protos if path.endswith("_service.proto")]
    out.mkdir(parents=True, exist_ok=True)
    includes = ["protoc", f"-I{HERE}", f"-I{common}", f"-I{well_known}", f"--plugin=protoc-gen-mypy={plugin}"]
    status = protoc.main([*includes, f"--python_out={out}", f"--mypy_out=quiet:{out}", *protos])
    status = status or protoc.main([*includes, f"--grpc_python_out={out}", *services])
    if status:
        raise SystemExit(status)


if __name__ == "__main__":
    generate(Path(sys.argv[1]))

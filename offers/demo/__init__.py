"""The demo catalogue: Filoche, a fictional delivery app in Paris."""

from importlib.resources import files
from pathlib import Path


def catalogue() -> Path:
    """Return the path of the packaged document: one Catalog as YAML."""
    return Path(str(files(__name__).joinpath("paris.yaml")))

"""Every setting of the server, read once and frozen: flags over environment over file over defaults."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from offers.errors import SettingsError


def _data_home() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "offers"


RETENTION_DAYS = {
    "impression": 90,
    "click": 180,
    "dismissal": 180,
    "view": 180,
    "add_to_cart": 180,
    "remove_from_cart": 180,
    "checkout_started": 180,
    "order": 730,
    "redemption": 730,
    "custom": 180,
    "decision": 90,
    "person": 730,
    "tombstone": 400,
}
"""Days for which the server keeps each kind of event, decisions, idle persons and tombstones."""
NATIVE_MODULE = "pygrpc_native"
Purpose = Literal["contextual", "profiling", "learning", "messaging"]


class Settings(BaseSettings):
    """Settings of `offers serve`.

    Each is a flag (--worker-threads), an environment variable (OFFERS_WORKER_THREADS) and a line of the TOML file that
    --config or OFFERS_CONFIG names (worker_threads = 4).
    """

    model_config = SettingsConfigDict(env_prefix="OFFERS_", frozen=True, extra="forbid")

    catalogs: tuple[Path, ...] = Field((), max_length=200)
    """Catalogue documents to serve, one per market or brand. Each is a file or a folder. Empty: the demo catalogue."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 or [::] for all addresses."""
    port: int = Field(50051, ge=0, le=65_535)
    """Port to listen on; 0 for any free port."""
    workers: int = Field(0, ge=0, le=1024)
    """Worker processes, each pinned to a core; 0 for one per core."""
    worker_threads: int = Field(4, ge=1, le=64)
    """Threads of a worker. They share one core, so a few keep it busy."""
    data_dir: Path = Field(default_factory=_data_home)
    """Folder for compiled snapshots, models, and state.db, which holds every store without a URL of its own."""
    state_url: str = ""
    """Store of persons and budgets: a path, sqlite:///path or redis://:password@host:port/db. Empty: state.db."""
    events_url: str = ""
    """Store of events and decisions: a path, sqlite:///path or postgresql://user:password@host:port/db. Empty:
    state.db."""
    outbox_url: str = ""
    """Outbox for the offers that triggers send: file:///path or redis://:password@host:port/db/stream. Empty:
    outbox.jsonl in the data folder."""
    sqlite_flush: bool = True
    """Whether SQLite has events, profiles and redemptions on the disk before they are acknowledged. Without it they
    survive the end of any process, but the last ones before a power cut may be lost."""
    store_timeout_ms: int = Field(50, ge=1, le=60_000)
    """Timeout of a call to Redis, in milliseconds. PostgreSQL has twenty times as long; SQLite has no timeout."""
    postgres_connections: int = Field(8, ge=1, le=1000)
    """Connections to PostgreSQL that each worker, and the learner, opens at most."""
    retention_days: dict[str, int] = Field(RETENTION_DAYS, validate_default=True)
    """Days of retention by kind, 1 to 3,650. Kinds that are not given have their value from RETENTION_DAYS."""
    geohash_length: int = Field(6, ge=0, le=12)
    """Characters of the geohash stored for an event's location. 6 are about 1 km; 0 stores none."""
    default_consent: tuple[Purpose, ...] = ("contextual",)
    """Purposes that a person without a recorded choice agrees to."""
    reload_interval_s: float = Field(1.0, gt=0, le=3600)
    """Seconds between checks for changed catalogue documents."""
    compile_timeout_s: float = Field(1800.0, gt=0, le=86_400)
    """Longest time that compiling a document may take, in seconds. A compilation that takes longer is ended."""
    drain_s: float = Field(5.0, ge=0, le=3600)
    """Seconds between reporting NOT_SERVING and refusing calls: at least the interval of health checks."""
    grace_s: float = Field(10.0, ge=0, le=3600)
    """Seconds that calls in flight then have to finish."""
    front: Literal["auto", "native", "grpcio"] = "grpcio"
    """Front that speaks gRPC: grpcio; native, which needs the extra `native`; auto: native if it is there."""
    max_connection_age_s: float = Field(300.0, gt=0, le=86_400)
    """Seconds after which a client has to reconnect, so that few long connections spread over the workers."""
    allow_handover: bool = False
    """Whether to start on a port that another server of the same user serves, to take over from it: both answer until
    the other one is stopped."""
    metrics_port: int = Field(0, ge=0, le=65_535)
    """Port of Prometheus metrics over HTTP, on the same address; 0 serves none."""
    learner: bool = True
    """Whether to run the learner, a process that learns what people take up and publishes models for the workers."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is logged."""

    @field_validator("host")
    @classmethod
    def _bare(cls, value: str) -> str:
        """Remove the brackets of an IPv6 address."""
        return value.strip("[]")

    @field_validator("catalogs", "data_dir")
    @classmethod
    def _at_home(cls, value: Any) -> Any:  # noqa: ANN401 - a path or several
        """Expand ~ to the home folder, as a shell does."""
        return value.expanduser() if isinstance(value, Path) else tuple(path.expanduser() for path in value)

    @field_validator("retention_days")
    @classmethod
    def _all_kinds(cls, value: dict[str, int]) -> dict[str, int]:
        """Check the kinds and days, and add the kinds that were not given."""
        if unknown := sorted(value.keys() - RETENTION_DAYS.keys()):
            raise ValueError(f"unknown: {', '.join(unknown)}; there are: {', '.join(RETENTION_DAYS)}")
        if wrong := sorted(name for name, days in value.items() if not 1 <= days <= 3650):
            raise ValueError(f"{', '.join(wrong)}: must be 1 to 3650")
        return {**RETENTION_DAYS, **value}

    @field_validator("front")
    @classmethod
    def _installed(cls, value: str) -> str:
        """Check that the native front is installed where it is asked for."""
        if value == "native" and find_spec(NATIVE_MODULE) is None:
            raise ValueError(f"{NATIVE_MODULE} is missing: pip install 'offers[native]', or take auto or grpcio")
        return value

    @property
    def is_native(self) -> bool:
        """Whether the native front takes the calls."""
        return self.front == "native" or (self.front == "auto" and find_spec(NATIVE_MODULE) is not None)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let flags take precedence over the environment, and the environment over the file."""
        del dotenv_settings, file_secret_settings
        file = os.environ.get("OFFERS_CONFIG")
        sources = (init_settings, env_settings)
        return (*sources, TomlConfigSettingsSource(settings_cls, Path(file))) if file else sources


def address_of(host: str, port: int) -> str:
    """Return a host and a port as one text, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def environment_without_settings() -> dict[str, str]:
    """Return the environment for a child process that is handed its settings another way: they may hold passwords."""
    return {name: value for name, value in os.environ.items() if not name.startswith("OFFERS_")}


def read_settings(**flags: Any) -> Settings:  # noqa: ANN401 - pydantic checks them
    """Return the settings in force; a flag of None was not given. Raises SettingsError naming each bad setting."""
    file = os.environ.get("OFFERS_CONFIG")
    if file and not Path(file).is_file():
        message = f"no settings file '{file}': correct --config or OFFERS_CONFIG"
        raise SettingsError(message)
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise SettingsError("; ".join(faults)) from None
    except ValueError as error:  # the file is not TOML, or a variable not the JSON its setting needs
        raise SettingsError(str(error)) from None

"""Every setting of the server, read once and frozen: flags over environment over file over defaults."""

import os
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
"""Days for which events of each kind, decisions, idle persons and tombstones are kept."""
Purpose = Literal["contextual", "profiling", "learning", "messaging"]


class Settings(BaseSettings):
    """Settings of `offers serve`. Each is a flag (--worker-threads), an environment variable
    (OFFERS_WORKER_THREADS) and a line of the file named by --config or OFFERS_CONFIG (worker_threads = 4, in TOML).
    """  # noqa: D205

    model_config = SettingsConfigDict(env_prefix="OFFERS_", frozen=True, extra="forbid")

    catalogs: tuple[Path, ...] = ()
    """Catalogue documents to serve, one per market or brand: files or folders. Empty: the demo catalogue."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 or [::] for all."""
    port: int = Field(50051, ge=0, le=65_535)
    """Port to listen on; 0 for a free one."""
    workers: int = Field(0, ge=0, le=1024)
    """Worker processes, each pinned to a core; 0 for one per core."""
    worker_threads: int = Field(4, ge=1, le=64)
    """Threads of a worker. They share its core: a few are enough to keep it busy."""
    data_dir: Path = Field(default_factory=_data_home)
    """Folder for compiled snapshots, and for state.db where stores have no other place."""
    state_url: str = ""
    """Where persons and budgets are kept: a path, sqlite:///path or redis://:password@host:port/db. Empty: state.db."""
    events_url: str = ""
    """Where events and decisions are kept: a path, sqlite:///path or postgresql://user:password@host:port/db. Empty:
    state.db."""
    outbox_url: str = ""
    """Where what triggers send stands: file:///path or redis://:password@host:port/db/stream. Empty: outbox.jsonl in
    the data folder."""
    store_timeout_ms: int = Field(50, ge=1, le=60_000)
    """Milliseconds Redis has to answer, and PostgreSQL twenty times as many. SQLite does not need it."""
    retention_days: dict[str, int] = Field(RETENTION_DAYS, validate_default=True)
    """Days for which things are kept, for some of RETENTION_DAYS: 1 to 3,650; the others stay as they are there."""
    geohash_length: int = Field(6, ge=0, le=12)
    """Characters of the geohash that is kept of an event's location: 6 are about 1 km, 0 keep none."""
    default_consent: tuple[Purpose, ...] = ("contextual",)
    """Purposes a person agrees to who has not said anything."""
    reload_interval_s: float = Field(1.0, gt=0, le=3600)
    """Seconds between looks at the catalogue documents."""
    drain_s: float = Field(5.0, ge=0, le=3600)
    """Seconds between saying NOT_SERVING and refusing calls: at least a health check's interval."""
    grace_s: float = Field(10.0, ge=0, le=3600)
    """Seconds calls under way have to end, after that."""
    max_connection_age_s: float = Field(300.0, gt=0, le=86_400)
    """Seconds after which a connection is asked to begin anew, so that few long ones spread over the workers."""
    metrics_port: int = Field(0, ge=0, le=65_535)
    """Port of Prometheus metrics over HTTP, on the same address; 0 for none."""
    learner: bool = True
    """Whether to learn what people take up, in a process of its own, and publish models for the workers."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level of the lines that are logged: debug, info, warning or error."""

    @field_validator("host")
    @classmethod
    def _bare(cls, value: str) -> str:
        """An IPv6 address may be written in brackets."""
        return value.strip("[]")

    @field_validator("catalogs", "data_dir")
    @classmethod
    def _at_home(cls, value: Any) -> Any:  # noqa: ANN401 - a path or several
        """~ is the home folder, as in a shell."""
        return value.expanduser() if isinstance(value, Path) else tuple(path.expanduser() for path in value)

    @field_validator("retention_days")
    @classmethod
    def _all_kinds(cls, value: dict[str, int]) -> dict[str, int]:
        """What is not given is as by default."""
        if unknown := sorted(value.keys() - RETENTION_DAYS.keys()):
            raise ValueError(f"unknown: {', '.join(unknown)}; there are: {', '.join(RETENTION_DAYS)}")
        if wrong := sorted(name for name, days in value.items() if not 1 <= days <= 3650):
            raise ValueError(f"{', '.join(wrong)}: must be 1 to 3650")
        return {**RETENTION_DAYS, **value}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then environment, then the file."""
        del dotenv_settings, file_secret_settings
        file = os.environ.get("OFFERS_CONFIG")
        sources = (init_settings, env_settings)
        return (*sources, TomlConfigSettingsSource(settings_cls, Path(file))) if file else sources


def address_of(host: str, port: int) -> str:
    """A host and a port as one text, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def read_settings(**flags: Any) -> Settings:  # noqa: ANN401 - pydantic checks them
    """The settings in force; a flag of None was not given. Raises SettingsError naming each bad one."""
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

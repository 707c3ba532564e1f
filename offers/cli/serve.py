"""`offers serve`: the server in the foreground, with a flag for every setting."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from offers.cli.options import grouped


class LogLevel(StrEnum):
    """The least severe level that is logged."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


class FrontName(StrEnum):
    """Values of the setting front."""

    auto = "auto"
    native = "native"
    grpcio = "grpcio"


class Purpose(StrEnum):
    """A purpose that a person can agree to."""

    contextual = "contextual"
    profiling = "profiling"
    learning = "learning"
    messaging = "messaging"


class DocumentOptions(NamedTuple):
    """The documents to serve, and the settings file."""

    catalog: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH", help="Document to serve: a file or folder; may be repeated. \\[default: the demo]"
        ),
    ] = None
    config: Annotated[
        Path | None,
        typer.Option(envvar="OFFERS_CONFIG", help="TOML file of settings; flags and environment take precedence."),
    ] = None
    reload_interval_s: Annotated[
        float | None, typer.Option(help="Seconds between checks of the documents. \\[default: 1]")
    ] = None
    compile_timeout_s: Annotated[
        float | None, typer.Option(help="Most seconds that compiling a document may take. \\[default: 1800]")
    ] = None


class ListenOptions(NamedTuple):
    """The address to listen on, and the number of processes."""

    host: Annotated[str | None, typer.Option(help="Address to listen on; 0.0.0.0 for all. \\[default: 127.0.0.1]")] = (
        None
    )
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 for a free one. \\[default: 50051]")] = None
    workers: Annotated[
        int | None, typer.Option(help="Worker processes, each on its core; 0 for one per core. \\[default: 0]")
    ] = None
    worker_threads: Annotated[int | None, typer.Option(help="Threads of a worker. \\[default: 4]")] = None
    front: Annotated[
        FrontName | None,
        typer.Option(metavar="FRONT", help="What speaks gRPC: grpcio, native or auto. \\[default: grpcio]"),
    ] = None
    max_connection_age_s: Annotated[
        float | None, typer.Option(help="Seconds after which clients reconnect. \\[default: 300]")
    ] = None
    drain_s: Annotated[
        float | None, typer.Option(help="Seconds from NOT_SERVING to refusing calls. \\[default: 5]")
    ] = None
    grace_s: Annotated[
        float | None, typer.Option(help="Seconds that calls in flight then have to finish. \\[default: 10]")
    ] = None
    allow_handover: Annotated[
        bool | None,
        typer.Option(
            "--allow-handover/--no-allow-handover",
            help="Start on a port that another server serves, to take over from it. \\[default: no-allow-handover]",
        ),
    ] = None


class StoreOptions(NamedTuple):
    """The stores of data."""

    data_dir: Annotated[
        Path | None, typer.Option(help="Folder for snapshots and state.db. \\[default: ~/.local/share/offers]")
    ] = None
    state_url: Annotated[
        str | None,
        typer.Option(help="Path or redis:// URL of persons and budgets; empty: state.db. \\[default: ]"),
    ] = None
    events_url: Annotated[
        str | None,
        typer.Option(help="Path or postgresql:// URL of events; empty: state.db. \\[default: ]"),
    ] = None
    outbox_url: Annotated[
        str | None,
        typer.Option(help="file:// or redis:// URL of the triggers' outbox; empty: outbox.jsonl. \\[default: ]"),
    ] = None
    sqlite_flush: Annotated[
        bool | None,
        typer.Option(
            "--sqlite-flush/--no-sqlite-flush",
            help="Have SQLite bring events to the disk before they are acknowledged. \\[default: sqlite-flush]",
        ),
    ] = None
    store_timeout_ms: Annotated[int | None, typer.Option(help="Timeout of Redis, in milliseconds. \\[default: 50]")] = (
        None
    )
    postgres_connections: Annotated[
        int | None, typer.Option(help="Connections to PostgreSQL of each process, at most. \\[default: 8]")
    ] = None


class PrivacyOptions(NamedTuple):
    """Data about people: its detail and its retention."""

    retention_days: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND=DAYS", help="How long a kind is kept; may be repeated. \\[default: 90 to 730]"),
    ] = None
    geohash_length: Annotated[
        int | None, typer.Option(help="Characters kept of a location's geohash; 0 for none. \\[default: 6]")
    ] = None
    default_consent: Annotated[
        list[Purpose] | None,
        typer.Option(
            metavar="PURPOSE", help="Consent of people without a choice; may be repeated. \\[default: contextual]"
        ),
    ] = None


class ProcessOptions(NamedTuple):
    """Learning, metrics and logs."""

    learner: Annotated[
        bool | None,
        typer.Option("--learner/--no-learner", help="Run the learner beside the workers. \\[default: learner]"),
    ] = None
    metrics_port: Annotated[
        int | None, typer.Option(help="Port of Prometheus metrics over HTTP; 0 for none. \\[default: 0]")
    ] = None
    log_level: Annotated[
        LogLevel | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error. \\[default: info]")
    ] = None


@grouped
def serve(
    documents: DocumentOptions,
    listening: ListenOptions,
    stores: StoreOptions,
    privacy: PrivacyOptions,
    processes: ProcessOptions,
) -> None:
    """Serve catalogues over gRPC until SIGTERM or Ctrl-C.

    Every setting is a flag (--port), an environment variable (OFFERS_PORT)
    or a line of the --config file (port = 50051), in this order.
    A changed document is reloaded while serving; a broken one is refused.
    """
    from offers.app import serve as run
    from offers.settings import read_settings

    if documents.config is not None:
        os.environ["OFFERS_CONFIG"] = str(documents.config)
    front = listening.front
    kept, consent, level = privacy.retention_days, privacy.default_consent, processes.log_level
    given = {
        **listening._asdict(),
        **stores._asdict(),
        **processes._asdict(),
        "catalogs": documents.catalog,
        "reload_interval_s": documents.reload_interval_s,
        "compile_timeout_s": documents.compile_timeout_s,
        "retention_days": kept and dict(one.partition("=")[::2] for one in kept),
        "geohash_length": privacy.geohash_length,
        "default_consent": consent and tuple(purpose.value for purpose in consent),
        "log_level": level and level.value,
        "front": front and front.value,
    }
    raise typer.Exit(run(read_settings(**given)))

"""Structured logs on stderr: JSON lines for machines, colours on a terminal."""

import logging
import sys
import traceback
from typing import BinaryIO

import orjson
import structlog


def configure(level: str) -> None:
    """Configure logging for this process; `level` is debug, info, warning or error.

    Lines are JSON, or coloured text where stderr is a terminal.
    """
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    logger_factory: structlog.typing.WrappedLogger
    if sys.stderr.isatty():
        processors.append(structlog.dev.ConsoleRenderer())
        logger_factory = structlog.PrintLoggerFactory(sys.stderr)
    else:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(orjson.dumps)]
        logger_factory = structlog.BytesLoggerFactory(_Lines(sys.stderr.buffer))  # type: ignore[arg-type] # enough of one
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=logger_factory,
    )


class _Lines:
    """A binary file for lines of the log that raises no errors: a full disk must not end the process that logs.

    Lines that could not be written are counted, and the number is logged once the file takes lines again.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lost = 0

    def write(self, line: bytes) -> None:
        """Write a line, or count it."""
        try:
            self._file.write(line)
            self._file.flush()
        except (OSError, ValueError):  # ValueError: the file is closed
            self._lost += 1
            return
        if self._lost:
            lost, self._lost = self._lost, 0
            self.write(orjson.dumps({"event": "log_lines_lost", "count": lost, "level": "warning"}) + b"\n")

    def flush(self) -> None:
        """Do nothing: every line is flushed."""


def log_failure(log: structlog.stdlib.BoundLogger, name: str, error: Exception, **fields: object) -> None:
    """Log an unexpected error with its traceback, but not its message, which may contain personal data."""
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    log.error(name, error=type(error).__qualname__, frames=frames, **fields)

"""Follows the models that a learner publishes, and hands the current one to the engines."""

import time
from pathlib import Path

import structlog

from offers.files import read_regular
from offers.learning.learner import CURRENT, current_model
from offers.server.live import Live

RETRY_S = 5.0
"""Seconds until a model that could not be opened is tried again."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class ModelFollower:
    """Follows the folder of a learner. The last good model stays in use while the current one is broken or gone."""

    def __init__(self, live: Live, folder: Path) -> None:
        self._live, self._folder = live, folder
        self._seen = b""
        self._version = ""
        self._again_at = float("inf")

    def look(self) -> None:
        """Use the current model if it has changed."""
        try:
            content = read_regular(self._folder / CURRENT)
        except FileNotFoundError:
            content = b""  # none yet, or gone
        except OSError as error:
            log.warning("model_unusable", error=str(error))
            return
        if content == self._seen and time.monotonic() < self._again_at:
            return
        self._seen, self._again_at = content, float("inf")
        if not content:
            if self._version:
                log.warning("model_gone", still_using=self._version)
            return
        model = current_model(self._folder)
        if model is None:
            self._again_at = time.monotonic() + RETRY_S
            log.error("model_refused", still_using=self._version or None)
        elif model.version != self._version:
            self._live.use_model(model)
            self._version = model.version
            log.info("model_used", version=model.version)

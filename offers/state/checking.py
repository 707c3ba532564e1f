"""Checks the stores before a server starts, so that a wrong address ends it with the reason."""

from contextlib import closing

import structlog

from offers.errors import OtherStoreError, StoreUnavailableError, UnusableStoreError
from offers.settings import Settings
from offers.state.identity import ROLES, Identity
from offers.state.outbox import open_outbox
from offers.state.places import Places

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def check_stores(settings: Settings) -> None:
    """Use each store once, and record those that are new to the data folder.

    A store that was used before and cannot be used is logged: the server serves without it. Raises SettingsError for
    addresses that cannot be used, UnusableStoreError for a store that never worked and cannot, and OtherStoreError for
    one that has taken the place of another. A server that does not answer may do so later, and is logged.
    """
    places = Places(settings, is_server=True)
    for identity in {identity.place: identity for identity in map(places.identity, ROLES)}.values():
        _check_store(places, identity)
    outbox = open_outbox(settings)
    try:
        outbox.check()
    except UnusableStoreError:
        raise
    except StoreUnavailableError as error:
        log.warning("outbox_unavailable", reason=str(error))
    finally:
        outbox.close()


def _check_store(places: Places, identity: Identity) -> None:
    setting = f"{identity.roles[0]}_url"
    said = {"store": identity.place, "roles": identity.roles}
    try:
        with closing(places.open(identity.roles[0])) as store:
            for advice in store.check():
                log.warning("store_at_risk", **said, reason=advice)
    except OtherStoreError:
        raise
    except UnusableStoreError as error:
        if not identity.has_worked:
            raise UnusableStoreError(f"{setting}: {error}") from error
        log.error("store_unusable", **said, reason=str(error))  # noqa: TRY400 - no fault here
    except StoreUnavailableError as error:
        log.warning("store_unavailable", **said, reason=str(error))

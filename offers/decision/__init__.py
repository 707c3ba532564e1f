"""The hot path, pure: a snapshot and a query in, a ranked decision out."""

import offers.compiled  # noqa: F401 - says where its loops are kept

"""The fast path of GetOffers: request bytes to response bytes in compiled loops."""

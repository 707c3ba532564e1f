"""What a request may hold at most; stated in the protos."""

MAX_REQUEST_BYTES = 1 << 20
"""A context of a few kilobytes is large; 1 MiB leaves room for attributes and stops mistakes."""
MAX_BATCH_BYTES = 4 << 20
MAX_BATCH = 1000
MAX_BATCH_RESPONSE_BYTES = 32 << 20
"""A thousand usual answers are 3 MB; a request of 4 kB must not be able to ask for a gigabyte."""
MAX_ACCURACY_M = 1_000_000
MAX_ATTRIBUTES = 100
MAX_SEEN = 1000
"""Offers that a caller says a person has met, and instants of each."""
MAX_ID = 128
MAX_PERSON_ID = 256
MAX_NAME = 64
MAX_VIEWED = 50
"""Categories, products and micro conversions of a session, of each."""
MAX_SEARCHES = 20
MAX_WORDS = 200
"""Characters of a search."""
MAX_ITEMS = 100
"""Things in a basket, or in an order."""
MAX_QUANTITY = 1_000_000
MAX_UNITS = 2**40 - 1
"""Of a sum of money."""

"""A person's state, and how events change it."""

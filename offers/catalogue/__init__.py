"""Catalogue documents: read, checked and compiled into snapshots."""

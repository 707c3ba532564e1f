"""Catalogue documents: read, checked, compiled to snapshots and watched."""

"""Compiled stages that read the person: consent, counters, segments and behaviour."""

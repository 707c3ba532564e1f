"""Supervisor, worker and learner processes, and the periodic work each does."""

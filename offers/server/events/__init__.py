"""Event intake: validate, log and apply events."""

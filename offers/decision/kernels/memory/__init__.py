"""Memory layouts of the compiled loops: records, scratch arrays and encoded messages."""

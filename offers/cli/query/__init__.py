"""`offers query`: one request to a running server, and its answer as a table, as JSON or on a map."""

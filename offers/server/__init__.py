"""The gRPC edge: bytes in, bytes out, errors to statuses, and the life of the processes."""

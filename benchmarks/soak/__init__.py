"""A server under steady use for a long time: its memory, descriptors and threads must not grow."""

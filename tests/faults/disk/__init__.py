"""A disk that fails and kills on demand, under SQLite and Python."""

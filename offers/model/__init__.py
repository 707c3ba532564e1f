"""The nouns of a decision, frozen and without I/O, and the conversions that several layers share."""

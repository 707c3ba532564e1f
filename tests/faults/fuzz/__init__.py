"""Mutated calls of every method that a server tells of by reflection: `make fuzz`."""

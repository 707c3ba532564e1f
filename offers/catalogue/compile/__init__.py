"""From a checked catalogue document to the arrays of a snapshot."""

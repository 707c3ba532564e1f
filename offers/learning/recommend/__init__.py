"""Recommendation from visits: habit, popularity and co-occurrence."""

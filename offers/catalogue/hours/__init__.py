"""Opening hours: grammar, schedules, public holidays and sun times."""

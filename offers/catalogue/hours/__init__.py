"""Opening hours: grammar, schedules, public holidays and the sun."""

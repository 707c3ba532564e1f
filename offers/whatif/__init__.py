"""What would have been: logged decisions, decided again with another strategy or catalogue."""

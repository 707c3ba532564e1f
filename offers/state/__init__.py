"""What is kept of persons: their state, events, budgets; what events do to it, and the stores that hold it."""

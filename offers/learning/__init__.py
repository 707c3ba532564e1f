"""What is learned from events: models, recommendation, evaluation."""

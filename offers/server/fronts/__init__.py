"""Fronts: they speak gRPC with clients, hand encoded requests to methods, and send encoded responses or statuses."""

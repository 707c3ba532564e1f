"""Contextual offers over gRPC: where, when and who in; ranked offers and their reasons out."""

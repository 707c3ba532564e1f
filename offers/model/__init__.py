"""The nouns a decision is made of; frozen, without I/O."""

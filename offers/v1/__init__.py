"""The generated messages and stubs of package offers.v1: made by `make protos`, never edited."""

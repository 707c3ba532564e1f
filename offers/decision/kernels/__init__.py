"""The compiled stages of a decision. decide.py has their sequence."""

"""`python -m offers`: the command line."""

from offers.cli import main

if __name__ == "__main__":
    main()

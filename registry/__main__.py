"""`python -m registry`: the `registry` command, where scripts are not on the path."""

from registry.cli import main

if __name__ == "__main__":
    main("python -m registry")

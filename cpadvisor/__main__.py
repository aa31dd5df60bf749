"""`python -m cpadvisor` is the command `cpadvisor`."""

from cpadvisor.cli import main

if __name__ == "__main__":
    raise SystemExit(main())

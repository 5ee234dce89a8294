"""`python -m bitdew` is the command `bitdew`."""

from bitdew.cli.main import main

if __name__ == "__main__":
    main()

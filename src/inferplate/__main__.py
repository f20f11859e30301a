"""Run the command line with ``python -m inferplate``."""

from inferplate.cli import main

if __name__ == "__main__":
    main()

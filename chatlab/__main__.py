"""Run the command line with `python -m chatlab`."""

from chatlab.cli import main

main()

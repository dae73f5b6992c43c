"""Run the command line with python -m baton."""

from baton.cli.main import main

main()

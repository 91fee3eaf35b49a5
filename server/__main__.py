"""`python -m server`: the same as `loquent`."""

from server.cli import main

main()

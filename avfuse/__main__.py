"""`python -m avfuse` is the `avfuse` command."""

from avfuse.cli import main

main()

"""`python -m agit_hub.cli`."""

from agit_hub.cli import main

main()

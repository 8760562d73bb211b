"""``python -m scenarios`` is the `chatproof` command."""

from .cli import main

main()

"""``python -m chatd``: the same as the ``chatd`` command."""

from .cli import main

main()

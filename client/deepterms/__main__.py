"""python -m deepterms: the command line."""

from deepterms.cli import main

main()

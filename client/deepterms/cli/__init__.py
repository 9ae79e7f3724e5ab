"""The deepterms command, with one module per group of commands."""

from deepterms.cli.app import main

__all__ = ["main"]

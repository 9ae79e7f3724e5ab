"""The deepterms command: one module a group of commands."""

from deepterms.cli.app import main

__all__ = ["main"]

"""Checks and figures of a filled index: verification, statistics, reconciliation, explanation."""

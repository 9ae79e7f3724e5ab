"""What can be asked of an index that is filled: verification, statistics, reconciliation, explanation."""

"""From one query to its hits: options, request body, and reading the response."""

"""One query to hits: its options, its request body, and what is read from the answer."""

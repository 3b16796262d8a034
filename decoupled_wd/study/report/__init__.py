"""What a study shows: a page, and a table in the terminal."""

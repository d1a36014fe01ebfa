"""Documents and their pictures."""

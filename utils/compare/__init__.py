"""`python -m utils.compare`: runs in one table."""

"""`python -m utils.report`: runs on one page."""

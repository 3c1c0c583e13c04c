"""`python -m studies`: many training runs and what they say."""

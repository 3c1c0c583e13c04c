"""`python -m utils.export`: the inference network as a file."""

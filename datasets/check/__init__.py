"""`python -m datasets.check`: is the data on disk as released?"""

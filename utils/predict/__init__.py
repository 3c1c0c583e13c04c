"""Predictions for images and videos: the parts of `predict.py`."""

"""Backbones as five layers with one interface."""

"""Describes an artifact: its manifest, and a first predict.py. Serving imports nothing of it."""

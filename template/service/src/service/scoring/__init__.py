"""Scores a file: a prediction for each of its rows, as /predict would answer it."""

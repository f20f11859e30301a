"""The template: where it is, its questions, variants and versions, and how it is rendered."""

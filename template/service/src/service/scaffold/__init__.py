"""Describes an artifact, for its manifest. Serving uses no more of it than its arguments."""

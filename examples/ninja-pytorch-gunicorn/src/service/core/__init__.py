"""A model and its queue. Nothing here knows HTTP or a web framework."""

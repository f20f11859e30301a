"""``inferplate-verify``: every check of every variant."""

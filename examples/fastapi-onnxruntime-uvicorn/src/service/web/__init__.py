"""Bytes in, bytes out: everything about HTTP that does not depend on the web framework."""

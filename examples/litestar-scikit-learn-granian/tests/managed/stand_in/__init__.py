"""Modules that take the place of yours in `service`, so that no test here depends on your files."""

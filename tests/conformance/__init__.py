"""Requests made of the OpenAPI document, run inside emitted services by test_conformance.py."""

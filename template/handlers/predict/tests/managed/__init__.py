"""Tests of the service around your model. They belong to the template: an update replaces them."""

"""No runtime: every test brings its own."""

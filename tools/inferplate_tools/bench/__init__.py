"""Services measured side by side on this machine, and against other ways to serve a model."""

"""Stand-ins for a service whose instances hold files."""

"""Settings, processes, metrics and logs. Nothing here imports the rest of the service."""

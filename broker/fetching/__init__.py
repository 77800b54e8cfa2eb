"""What fetch requests need besides the logs: incremental sessions, and waiting for data."""

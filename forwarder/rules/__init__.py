"""What of an upload a connection wants, whatever its format."""

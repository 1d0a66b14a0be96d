"""Where raw uploads come from."""

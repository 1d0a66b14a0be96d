"""The configuration files, from YAML text to typed values."""

"""What every format of uploads has in common: JSON taken apart, runs of events."""

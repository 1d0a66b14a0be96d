"""Where endpoints are kept: one contract, two stores, and the rules by which updates are merged."""

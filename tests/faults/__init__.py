"""The fault matrix: everything AWS does wrong, one row after the other, and what it cost."""

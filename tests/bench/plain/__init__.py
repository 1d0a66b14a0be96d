"""The plain alternative: what one writes in an afternoon, in a virtual environment of its own."""

"""The stages of collecting: pure, and independent of each other.

``decode``, ``route``, ``filter``, ``window`` and ``encode`` do not import one another; what they
hand on is in ``shapes``, and the small modules beside them are the words they share.
"""

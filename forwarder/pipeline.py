"""THE ORDER OF THE STAGES: decode, route, filter, window, encode.

Pure: lists in, lists out, time comes in as an argument.
"""

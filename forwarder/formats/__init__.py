"""Formats of uploads and of documents; what all of them have in common is JSON taken apart."""

"""What was declared elsewhere, read to become connections of ours: event streams of Pinpoint."""

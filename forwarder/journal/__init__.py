"""Where closed batches and bookkeeping are kept: the outbox, the state, the group's commit."""

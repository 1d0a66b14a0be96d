"""One worker: its membership in the group, its partitions, their ticks, what watches over them."""

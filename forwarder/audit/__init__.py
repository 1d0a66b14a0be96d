"""What operators ask of a group, and do to it, from outside: Kafka alone, no worker needed."""

"""What operators' commands ask of a group and do to it: Kafka alone, no worker needed."""

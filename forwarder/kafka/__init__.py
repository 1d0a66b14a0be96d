"""What is known of Kafka and of its client library, and of no topic of ours."""

"""The Kafka driver: clients, requests, and mends of the client library. Knows no topic of ours."""

"""What operators see: metrics, logs, health, and the server that shows them."""

"""The AWS driver: credentials, signatures, HTTP sessions, and what errors mean. Knows no sink."""

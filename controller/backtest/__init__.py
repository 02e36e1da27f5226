"""A plan's criteria held against the past of a real Prometheus, and the pictures of evidence."""

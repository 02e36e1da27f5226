"""The tests, and under `realparts` the real servers that they run against."""

"""What a plan would do in a world that is written down: virtual time, the same decisions."""

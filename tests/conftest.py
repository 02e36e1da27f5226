"""What all tests share: the real parts, found and started by tests/realparts."""

pytest_plugins = ["tests.realparts.fixtures"]

"""Everything real on this machine and no cluster: `python -m demo` shows one launch from its start to its end."""

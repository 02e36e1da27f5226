"""The command line, one module per group of commands. They build parts and show results; rules are the core's."""

"""The edge: one file per library or server, each the only importer of its own."""

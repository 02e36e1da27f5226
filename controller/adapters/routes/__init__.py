"""One module for each kind of traffic split: how its weights are written."""

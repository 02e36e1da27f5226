"""The pure core: decisions from observations, with no clock, no network and no log."""

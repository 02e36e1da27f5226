"""auto-advance: a controller that runs a launch by a plan written in advance."""

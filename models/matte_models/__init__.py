"""Networks of matte: definition, export to model packages, training."""

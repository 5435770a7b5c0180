"""Training of the zoo's models: `python -m amdm_shapes_zoo.train`."""

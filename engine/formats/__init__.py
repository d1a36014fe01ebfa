"""How weights lie in files: one module per format."""

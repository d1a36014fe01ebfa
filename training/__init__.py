"""How the bundled models are made; nothing here is imported by the app."""

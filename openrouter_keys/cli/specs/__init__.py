"""Files of keys to create: CSV, JSON, lines of JSON, YAML. No network."""

"""Files of keys to be made: CSV, JSON, lines of JSON, YAML. No network."""

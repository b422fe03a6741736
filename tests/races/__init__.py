"""Several processes on one journal: no ref gets two keys, no secret is lost, whoever is killed."""

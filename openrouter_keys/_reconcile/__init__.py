"""What became of creates without an answer: their keys are found, and deleted if proven ours."""

"""The commands of single keys, a file each."""

"""The account as specs say: a plan by one listing, then its changes, each journaled and once."""

"""What callers may pass in: bad input is refused here, before anything is sent."""

"""`demo`: a tour of both clients that checks what it shows."""

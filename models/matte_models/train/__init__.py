"""Training of the small network `lite`: data, losses, loop, evaluation."""

"""What decisions say of a version, and what came of each of them."""

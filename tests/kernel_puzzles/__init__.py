"""Solutions of the kernel puzzles, and wrong answers to them."""

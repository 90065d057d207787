"""From the chain into the books, and back when blocks are replaced."""

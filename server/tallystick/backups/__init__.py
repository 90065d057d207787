"""The books in one file, from either database and into either."""

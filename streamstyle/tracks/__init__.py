"""Where objects are, written for other programs, and read back."""

"""A frame painted: with which networks, where, how much of each, and held calm along the motion."""

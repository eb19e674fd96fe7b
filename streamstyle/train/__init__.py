"""How networks that come with the package were trained; never imported by the streaming path."""

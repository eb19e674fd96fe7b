"""Torch modules and where their weights come from. No video here."""

"""The two mouths of the river: files in, files out. PyAV is imported only in this package."""

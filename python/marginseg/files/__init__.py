"""Files: written whole or not at all, locks on folders, and NIfTI volumes."""

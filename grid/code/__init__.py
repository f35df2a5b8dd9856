"""The user's own code: which of it a name reaches, its fingerprint, its copy in the results."""

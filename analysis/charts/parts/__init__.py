"""Parts that figures share: encodings, style, names, what has room."""

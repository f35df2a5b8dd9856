"""The sweep file: its models, its text read with line numbers, what it may say."""

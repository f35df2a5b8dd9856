"""Who may work on a results folder."""

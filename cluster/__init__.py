"""Where command lines run; knows no sweep and no torch."""

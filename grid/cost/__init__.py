"""Cost of a plan: time, memory, disk, slots, and the time left."""

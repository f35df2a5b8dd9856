"""What a plan costs: time, memory, disk, slots, and the time left."""

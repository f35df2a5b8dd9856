"""How fast this machine is: for the estimates of plans."""

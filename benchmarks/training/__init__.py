"""Speed of one trial: training and augmentation against common loops."""

"""Changes of images: random augmentation, mixing, fixed enhancement."""

"""Changes of images: random augmentation, mixing of pairs, fixed enhancement."""

"""Training: data sets, augmentation, recipes and the loop."""

"""Pure tensor functions: seeds, augmentation, losses and schedules. Imports nothing else of raydd."""

"""Pure tensor functions: seeds, augmentation, losses, schedules. Imports nothing else of raydd."""

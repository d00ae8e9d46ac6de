"""From words to a typed, checked tree; beside the doors, the only room that imports hydra."""

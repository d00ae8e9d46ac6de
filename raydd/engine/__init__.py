"""The engine: stages, streams, training and synthesis. The only floor that imports ray."""

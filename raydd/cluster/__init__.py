"""Ray: connect, a pool of units, tasks, fit."""

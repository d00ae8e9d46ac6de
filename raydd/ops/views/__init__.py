"""Random views of a training batch: drawn on the CPU, sent in one copy, applied on the device."""

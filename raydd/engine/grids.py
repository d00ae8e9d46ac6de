"""Which images of a curriculum a page shows: a report, and the result browser beside others."""

GRID_CLASSES, GRID_SLOTS = 10, 10


def grid_slots(slots: range, is_real: bool, most: int = GRID_SLOTS) -> range:
    """The first slots; of selected real images, which lie in order of difficulty, the middle."""
    columns = min(len(slots), most)
    start = slots.start + ((len(slots) - columns) // 2 if is_real else 0)
    return range(start, start + columns)


def grid_caption(slots: range, is_real: bool) -> str:
    """What rows and columns are.

    Args:
        slots: all of the curriculum.
        is_real: whether they are images of the source.
    """
    caption = f"slots {slots.start} to {slots.stop - 1}, one row per class"
    return f"real images of median difficulty, the middle of {caption}" if is_real else caption

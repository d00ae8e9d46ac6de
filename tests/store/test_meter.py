"""What is said of a stage that runs."""

import pytest

from raydd.store.meter import Meter, advance, measuring


def beat(at, of, **values):
    return {"stage": "squeeze", "beat": True, "at": at, "of": of, **values}


def test_units_tell_how_many_are_done_their_rate_and_the_time_left():
    meter = Meter(units=12, finished=2)
    with measuring(meter):
        advance(units=1)
        advance(units=3)
    # 4 of the 10 that were left in two minutes: three more minutes for the other 6
    assert meter.describe(120.0) == "6 of 12 units, 2.0 units/min, 3 min 00 s left"


def test_what_was_found_done_is_no_speed():
    assert Meter(units=12, finished=2).describe(60.0) == "2 of 12 units"


def test_a_unit_in_work_counts_in_part():
    meter = Meter(units=2)
    meter.hear(beat(1000, 4000, counts="step", unit="slot0", loss=0.5))
    assert meter.describe(60.0) == (
        "0 of 2 units, in work: step 1,000 of 4,000, loss 0.5, 7 min 00 s left"
    )
    meter.hear({"stage": "synthesize", "unit": "slot0", "seconds": 4.0})
    assert meter.pieces == {}


def test_a_training_tells_its_epoch_loss_and_last_accuracy():
    meter = Meter()
    meter.hear(beat(10.0, 40, counts="epoch", start=0, title="teacher", loss=0.75, top1=0.912))
    meter.hear(beat(10.5, 40, counts="epoch", title="teacher"))
    told = meter.describe(63.0)
    assert told == (
        "26 %, epoch 10.5 of 40, loss 0.75, top-1 91.2 %, 10.0 epochs/min, 2 min 57 s left"
    )


def test_a_resumed_training_is_timed_from_where_it_began():
    meter = Meter()
    meter.hear(beat(30, 40, counts="epoch", start=20, title="teacher"))
    assert meter.describe(60.0) == "75 %, epoch 30 of 40, 10.0 epochs/min, 1 min 00 s left"


def test_rows_tell_the_speed_of_a_pass():
    meter = Meter(units=4)
    with measuring(meter):
        advance(rows=3000)
        advance(units=1)
    assert meter.describe(10.0) == "1 of 4 units, 300 rows/s, 30.0 s left"


def test_nothing_is_said_of_a_stage_that_nobody_tells_of():
    assert Meter().describe(30.0) == ""


@pytest.mark.parametrize("units", [0, 3])
def test_counting_outside_of_a_stage_does_nothing(units):
    meter = Meter(units=3)
    with measuring(meter):
        advance(units=1)
    advance(units=units)
    assert meter.finished == 1


def test_a_unit_that_was_found_done_and_is_done_again_counts_once():
    meter = Meter(units=3, finished=2)
    with measuring(meter):
        advance(units=3)
    assert meter.finished == 3

"""The tuner: from what was measured to the next limits, with a reason. Pure: times are passed in."""

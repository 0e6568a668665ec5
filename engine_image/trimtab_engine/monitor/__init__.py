"""What is measured of requests: sliding windows, percentiles, load score, report. Pure: times are passed in."""

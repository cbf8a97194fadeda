"""What starts by itself or by hand: partitions, jobs, schedules and sensors."""

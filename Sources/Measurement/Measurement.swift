// Room Measurement.

"""Files of sensors as recordings: see `read_sensors`."""

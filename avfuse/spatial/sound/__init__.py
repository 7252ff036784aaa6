"""Sound in space: microphones -> directions -> pixels."""

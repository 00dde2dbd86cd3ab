"""The pure heart: bytes, events and times in, bytes and commands out. No I/O, no clock, no log."""

"""Alarms: sequential tests that may be looked at after every image, for ever."""
